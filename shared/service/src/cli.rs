//! A command line: how it is refused, and a service as a program of its own.

use std::error::Error;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command};
use tokio::runtime::Runtime;

use crate::process::variables;
use crate::setting::{AbsentSetting, absent_setting_in, without_user};
use crate::telemetry::print_error;

/// The program failed at its work.
const FAILED: u8 = 1;
/// The command line or a setting was not understood.
const REFUSED: u8 = 2;
/// How long a program that has ended waits for CPU work whose callers are gone.
const LAST_WORK: Duration = Duration::from_millis(500);

/// Runs a service: reads its settings from the command line and the environment, works, and says why it failed.
pub fn main<S, E, W>(name: &'static str, about: &'static str, run: impl FnOnce(S) -> W) -> ExitCode
where
    S: Args,
    E: Error + 'static,
    W: Future<Output = Result<(), E>>,
{
    match arguments().and_then(|arguments| settings(service_command::<S>(name, about), arguments)) {
        Ok(settings) => finish(name, run(settings), |error| with_causes(error)),
        Err(refusal) => refusal.end(name),
    }
}

/// Runs `work` to its end, and says why it failed.
pub fn finish<E>(
    program: &str,
    work: impl Future<Output = Result<(), E>>,
    message_of: impl FnOnce(&E) -> String,
) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(format_args!("{program}: the system gives no threads: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORK);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(format_args!("{program}: {}", message_of(&error)));
            ExitCode::from(FAILED)
        }
    }
}

/// An error with its causes; one whose words are there already is not repeated.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).fold(
        String::new(),
        |said, cause| match said {
            said if said.is_empty() => cause,
            said if said.contains(&cause) => said,
            said => format!("{said}: {cause}"),
        },
    )
}

/// The command line of this process, with the program's name.
pub fn arguments() -> Result<Vec<String>, CommandLineError> {
    std::env::args_os().map(as_text).collect()
}

fn as_text(argument: OsString) -> Result<String, CommandLineError> {
    argument.into_string().map_err(|argument| CommandLineError::Unclear {
        error: clap::Error::raw(ErrorKind::InvalidUtf8, format!("{argument:?} is not UTF-8\n")),
        variable: None,
    })
}

fn service_command<S: Args>(name: &'static str, about: &'static str) -> Command {
    S::augment_args(
        Command::new(name)
            .version(env!("CARGO_PKG_VERSION"))
            .about(about)
            .after_help("What is logged: CHRONIK_LOG (info, chronik_ingest=debug, ...), to standard error."),
    )
}

fn settings<S: Args>(command: Command, arguments: Vec<String>) -> Result<S, CommandLineError> {
    let read = command.clone().try_get_matches_from(&arguments).and_then(|matches| S::from_arg_matches(&matches));
    refuse_absent(arguments.into_iter().skip(1))?;
    read.map_err(|error| CommandLineError::unclear(error, &command))
}

/// Refuses flags, and variables of this process, that belong to what is not there yet.
pub fn refuse_absent(flags: impl IntoIterator<Item = String>) -> Result<(), CommandLineError> {
    match absent_setting_in(flags, variables()) {
        Some(absent) => Err(CommandLineError::Absent(absent)),
        None => Ok(()),
    }
}

/// A command line or an environment that is not understood.
#[derive(Debug)]
pub enum CommandLineError {
    /// By the words of clap.
    Unclear {
        /// What clap says, which is also the answer to `--help` and `--version`.
        error: clap::Error,
        /// The variable that brought a wrong value in, if one did: clap names the flag alone.
        variable: Option<String>,
    },
    /// A setting of something that is not there yet.
    Absent(AbsentSetting),
}

impl CommandLineError {
    /// What clap refused to read as `command`.
    pub fn unclear(mut error: clap::Error, command: &Command) -> Self {
        let variable = variable_of(&error, command);
        // It is shown on the terminal or in the log.
        if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
            let shown = without_user(value);
            error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
        }
        Self::Unclear { error, variable }
    }

    /// Says it, on standard error unless it was asked for, and gives the program's exit code.
    pub fn end(&self, program: &str) -> ExitCode {
        match self {
            Self::Absent(absent) => print_error(format_args!("{program}: {absent}")),
            Self::Unclear { error, variable } => {
                // A failure to print can't be reported.
                let _ = error.print();
                if let Some(variable) = variable {
                    print_error(format_args!("The value comes from {variable} in the environment."));
                }
                if !error.use_stderr() {
                    return ExitCode::SUCCESS;
                }
            }
        }
        ExitCode::from(REFUSED)
    }
}

fn variable_of(error: &clap::Error, command: &Command) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let flag = argument.split_whitespace().next()?.strip_prefix("--")?.to_owned();
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let variable = commands
        .flat_map(Command::get_arguments)
        .filter(|known| known.get_long() == Some(&flag))
        .find_map(|known| known.get_env())?;
    (std::env::var(variable).as_ref() == Ok(value)).then(|| variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::process::ServiceError;
    use crate::setting::HttpSettings;

    fn given(line: &str) -> Result<HttpSettings, CommandLineError> {
        let arguments = std::iter::once("chronik-test").chain(line.split_whitespace());
        let command = service_command::<HttpSettings>("chronik-test", "Tests.");
        settings(command, arguments.map(String::from).collect())
    }

    #[test]
    fn settings_are_read_or_refused() {
        assert_eq!(given("--http-port 1").unwrap().http_port, 1);
        assert!(matches!(given("--raft"), Err(CommandLineError::Absent(_))));
        for line in ["--http-port many", "--no-such-setting", "--help", "--version"] {
            assert!(matches!(given(line), Err(CommandLineError::Unclear { .. })), "{line}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let refused = ServiceError::Signals(std::io::Error::other("no more"));
        assert_eq!(with_causes(&refused), "signals can't be handled: no more");
        let part = std::io::Error::other(refused);
        assert_eq!(with_causes(&part), "signals can't be handled: no more");
    }

    #[test]
    fn only_what_was_not_asked_for_is_a_failure() {
        let code = |line| format!("{:?}", given(line).unwrap_err().end("chronik-test"));
        assert_eq!(code("--version"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code("--http-port many"), format!("{:?}", ExitCode::from(REFUSED)));
        assert_eq!(code("--raft"), format!("{:?}", ExitCode::from(REFUSED)));
    }
}
