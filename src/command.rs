//! The command line: what there is to say, and how a refusal is worded.

use std::ffi::OsString;

use anyhow::Result;
use chronik_core::setting::{AbsentSetting, absent_setting_in};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::output::Output;
use crate::server::Server;
use crate::settings::StandaloneSettings;
use crate::{standalone, tool};

/// Kafka topics whose whole history is searchable and lives in a bucket.
///
/// Without a command, `chronik standalone` runs: broker, indexer and search in one process.
#[derive(Debug, Parser)]
#[command(name = "chronik", version, disable_help_subcommand = true)]
pub struct Chronik {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run broker, indexer and search in one process.
    Standalone(Box<StandaloneSettings>),
    /// Create and list topics.
    #[command(subcommand)]
    Topic(tool::topic::Topic),
    /// Write the lines of standard input into a topic.
    Produce(tool::produce::Produce),
    /// Print the records of a topic.
    Consume(tool::consume::Consume),
    /// Find records.
    Search(tool::search::Search),
    /// Show where every partition stands.
    Status,
    /// Ship everything that is acknowledged, and send it to be indexed.
    Seal,
    /// Look into a segment.
    #[command(subcommand)]
    Segment(tool::inspect::Segment),
    /// Look into an archive.
    #[command(subcommand)]
    Archive(tool::inspect::Archive),
    /// Print the version.
    Version,
}

/// Reads a command line (with the program's name) and the environment.
pub fn read(
    mut arguments: Vec<String>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Chronik, Refusal> {
    if arguments.len() <= 1 {
        arguments.push("standalone".to_owned());
    }
    let chronik = Chronik::try_parse_from(&arguments);
    let serves = arguments[1] == "standalone";
    if serves {
        let names = environment.filter_map(|(name, _)| name.into_string().ok());
        if let Some(absent) = absent_setting_in(arguments.into_iter().skip(2), names) {
            return Err(Refusal::Absent(absent));
        }
    }
    chronik.map_err(Refusal::Unclear)
}

impl Chronik {
    /// Does what was asked.
    pub async fn run(self) -> Result<()> {
        let Self { command, server } = self;
        let output = Output::new(server.json);
        match command {
            Command::Standalone(settings) => standalone::run(*settings).await,
            Command::Topic(topic) => topic.run(&server, &output).await,
            Command::Produce(produce) => produce.run(&server, &output).await,
            Command::Consume(consume) => consume.run(&server, &output).await,
            Command::Search(search) => search.run(&server, &output).await,
            Command::Status => tool::status::run(&server, &output).await,
            Command::Seal => tool::seal::run(&server, &output).await,
            Command::Segment(segment) => segment.run(&output).await,
            Command::Archive(archive) => archive.run(&output).await,
            Command::Version => tool::version::run(&output),
        }
    }
}

/// A command line or an environment that is not understood.
#[derive(Debug)]
pub enum Refusal {
    /// By the words of clap.
    Unclear(clap::Error),
    /// A setting of something that is not there yet.
    Absent(AbsentSetting),
}

impl Refusal {
    /// Whether it is no refusal at all, but the answer to `--help` or `--version`.
    pub fn asked_for(&self) -> bool {
        match self {
            Self::Unclear(error) => !error.use_stderr(),
            Self::Absent(_) => false,
        }
    }

    /// Says it, on standard error unless it was asked for.
    pub fn print(&self) {
        match self {
            Self::Absent(absent) => eprintln!("chronik: {absent}"),
            Self::Unclear(error) => {
                // A failure to print leaves nobody to tell.
                let _ = error.print();
                if let Some(variable) = variable_of(error) {
                    eprintln!("The value comes from {variable} in the environment.");
                }
            }
        }
    }
}

/// The environment variable that brought a wrong value in, if one did: clap names the flag alone.
fn variable_of(error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let flag = argument.split_whitespace().next()?.strip_prefix("--")?.to_owned();
    let standalone = Chronik::command().find_subcommand("standalone")?.clone();
    let variable = standalone
        .get_arguments()
        .find(|known| known.get_long() == Some(&flag))?
        .get_env()?;
    (std::env::var(variable).as_ref() == Ok(value)).then(|| variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn given(line: &str) -> Result<Chronik, Refusal> {
        let arguments = std::iter::once("chronik")
            .chain(line.split_whitespace())
            .map(String::from);
        read(arguments.collect(), std::iter::empty())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Chronik::command().debug_assert();
    }

    #[test]
    fn without_a_command_everything_runs() {
        assert!(matches!(given("").unwrap().command, Command::Standalone(_)));
    }

    #[test]
    fn settings_of_what_is_absent_are_refused_before_anything_starts() {
        for line in ["standalone --raft", "standalone --kafka-port 1 --sqs-queue-url x"] {
            assert!(matches!(given(line), Err(Refusal::Absent(_))), "{line}");
        }
        let environment = [("CHRONIK_LISTENERS".into(), "PLAINTEXT://:9092".into())].into_iter();
        let refused = read(vec!["chronik".to_owned()], environment);
        assert!(matches!(refused, Err(Refusal::Absent(_))));
    }

    #[test]
    fn the_tool_does_not_mind_settings_of_a_server() {
        let environment = [("S3_BUCKET".into(), "x".into())].into_iter();
        assert!(read(vec!["chronik".to_owned(), "status".to_owned()], environment).is_ok());
    }

    #[test]
    fn help_names_no_command_that_does_not_work() {
        let help = Chronik::command().render_long_help().to_string();
        for absent in ["ingest ", "recover", "bucket", "compact"] {
            assert!(
                !help.lines().any(|line| line.trim_start().starts_with(absent)),
                "{absent} in\n{help}"
            );
        }
    }
}
