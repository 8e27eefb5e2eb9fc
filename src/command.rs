//! The command line: what there is to say, and how a refusal is worded.

use anyhow::Result;
use chronik_service::cli::{CommandLineError, refuse_absent};
use clap::{CommandFactory, Parser, Subcommand};

use crate::output::CommandOutput;
use crate::server::ServerOptions;
use crate::settings::StandaloneSettings;
use crate::{standalone, tool};

/// Kafka topics whose whole history is searchable and lives in a bucket.
///
/// Without a command, `chronik standalone` runs, and takes its options: broker, indexer and search in one process.
#[derive(Debug, Parser)]
#[command(name = "chronik", version, disable_help_subcommand = true, override_usage = "chronik [OPTIONS] [COMMAND]")]
pub struct Chronik {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run broker, indexer and search in one process.
    Standalone(Box<StandaloneSettings>),
    /// Run the broker alone.
    Ingest(Box<chronik_ingest::RunSettings>),
    /// Run an indexer alone.
    Indexer(Box<chronik_indexer::RunSettings>),
    /// Run search alone.
    Query(Box<chronik_query::RunSettings>),
    /// Create, list, describe and change topics.
    #[command(subcommand)]
    Topic(tool::topic::TopicCommand),
    /// Write the lines of standard input into a topic.
    Produce(tool::produce::ProduceCommand),
    /// Print the records of a topic.
    Consume(tool::consume::ConsumeCommand),
    /// List, describe and delete consumer groups, and set where they go on.
    #[command(subcommand)]
    Group(tool::group::GroupCommand),
    /// Find records.
    Search(tool::search::SearchCommand),
    /// Show where every partition stands.
    Status,
    /// Ship everything that is acknowledged, and send it to be indexed.
    Seal,
    /// Make few runs of many in closed history, and show how many there are.
    #[command(subcommand)]
    Compact(tool::compact::CompactCommand),
    /// Check and make the bucket, and a queue.
    #[command(subcommand)]
    Bucket(tool::bucket::BucketCommand),
    /// Look into a segment.
    #[command(subcommand)]
    Segment(tool::inspect::SegmentCommand),
    /// Look into a list of older segments.
    #[command(subcommand)]
    SegmentList(tool::inspect::SegmentListCommand),
    /// Look into an archive.
    #[command(subcommand)]
    Archive(tool::inspect::ArchiveCommand),
    /// Look into a page of a topic's history.
    #[command(subcommand)]
    Page(tool::inspect::PageCommand),
    /// Print the version.
    Version,
}

/// Reads a command line, with the program's name, and the environment.
pub fn read(mut arguments: Vec<String>) -> Result<Chronik, CommandLineError> {
    let mut chronik = Chronik::try_parse_from(&arguments);
    if chronik.as_ref().is_err_and(lacks_command) && arguments.get(1).is_none_or(|first| first.starts_with('-')) {
        let mut of_standalone = arguments.clone();
        of_standalone.insert(1, "standalone".to_owned());
        let standalone = Chronik::try_parse_from(&of_standalone);
        // What another command does not understand is refused in its own words.
        if standalone.is_ok() || !names_command(&arguments) {
            (arguments, chronik) = (of_standalone, standalone);
        }
    }
    if ["standalone", "ingest", "indexer", "query"].contains(&arguments[1].as_str()) {
        refuse_absent(arguments.into_iter().skip(2))?;
    }
    chronik.map_err(|error| CommandLineError::unclear(error, &Chronik::command()))
}

fn names_command(arguments: &[String]) -> bool {
    let chronik = Chronik::command();
    arguments.iter().any(|argument| chronik.get_subcommands().any(|command| command.get_name() == argument))
}

/// Whether a command line was refused that could be one of `standalone`.
fn lacks_command(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand, UnknownArgument};
    matches!(error.kind(), DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand | UnknownArgument)
}

impl Chronik {
    /// Does what was asked.
    pub async fn run(self) -> Result<()> {
        let Self { command, server } = self;
        let output = CommandOutput::new(server.json);
        match command {
            Command::Standalone(settings) => standalone::run(*settings).await,
            Command::Ingest(settings) => Ok(chronik_ingest::run(*settings).await?),
            Command::Indexer(settings) => Ok(chronik_indexer::run(*settings).await?),
            Command::Query(settings) => Ok(chronik_query::run(*settings).await?),
            Command::Topic(topic) => topic.run(&server, &output).await,
            Command::Produce(produce) => produce.run(&server, &output).await,
            Command::Consume(consume) => consume.run(&server, &output).await,
            Command::Group(group) => group.run(&server, &output).await,
            Command::Search(search) => search.run(&server, &output).await,
            Command::Status => tool::status::run(&server, &output).await,
            Command::Seal => tool::seal::run(&server, &output).await,
            Command::Compact(compact) => compact.run(&server, &output).await,
            Command::Bucket(bucket) => bucket.run(&output).await,
            Command::Segment(segment) => segment.run(&output).await,
            Command::Archive(archive) => archive.run(&output).await,
            Command::SegmentList(list) => list.run(&output).await,
            Command::Page(page) => page.run(&output).await,
            Command::Version => tool::version::run(&output),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn given(line: &str) -> Result<Chronik, CommandLineError> {
        let arguments = std::iter::once("chronik").chain(line.split_whitespace());
        read(arguments.map(String::from).collect())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Chronik::command().debug_assert();
    }

    #[test]
    fn without_a_command_everything_runs() {
        for line in ["", "--data-dir x", "--http-token t --kafka-port 1", "--http-token t"] {
            assert!(matches!(given(line).unwrap().command, Command::Standalone(_)), "{line}");
        }
        assert!(matches!(given("--raft"), Err(CommandLineError::Absent(_))));
        for line in ["x", "--json x", "-x", "--help", "produce --data-dir x"] {
            assert!(given(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_command_behind_options_is_refused_in_its_own_words() {
        for (line, told) in [
            ("--json topic list --wrong", "--wrong"),
            ("--bootstrap a:1 consume t --partition=-1", "--partition"),
            ("--data-dir x --wrong", "--wrong"),
        ] {
            let Err(CommandLineError::Unclear { error, .. }) = given(line) else { panic!("{line}") };
            assert!(error.to_string().lines().next().unwrap().contains(told), "{error}");
        }
    }

    #[test]
    fn settings_of_what_is_absent_are_refused_before_anything_starts() {
        for line in ["standalone --raft", "ingest --kafka-port 1 --raft", "query --node-id=x"] {
            assert!(matches!(given(line), Err(CommandLineError::Absent(_))), "{line}");
        }
    }

    #[test]
    fn the_tool_and_the_services_know_the_same_token() {
        for line in ["status --http-token t", "--http-token t status", "query --http-token t"] {
            let chronik = given(line).unwrap();
            let token = match &chronik.command {
                Command::Query(settings) => settings.http.http_token.clone(),
                _ => chronik.server.http_token.clone(),
            };
            assert!(token.is_some_and(|token| token.is(b"t")), "{line}");
        }
    }

    #[test]
    fn help_names_no_command_that_does_not_work() {
        let help = Chronik::command().render_long_help().to_string();
        assert!(!help.lines().any(|line| line.trim_start().starts_with("recover")), "in\n{help}");
    }
}
