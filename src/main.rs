//! The `chronik` command: the whole system in one process, each service alone, and the operator's tool. It is thin: the
//! services are crates of their own, and the tool speaks Kafka and HTTP like any other client.

mod clock;
mod command;
mod http;
mod kafka;
mod not_searched;
mod output;
mod server;
mod settings;
mod standalone;
mod tool;

use std::process::ExitCode;

use chronik_service::cli::{arguments, finish, with_causes};

fn main() -> ExitCode {
    match arguments().and_then(command::read) {
        Ok(command) => finish("chronik", run(command), |error| with_causes(error.as_ref())),
        Err(refusal) => refusal.end("chronik"),
    }
}

async fn run(command: command::Chronik) -> anyhow::Result<()> {
    match command.run().await {
        // The reader of our output (`head`, say) has seen enough.
        Err(error) if output::is_broken_pipe(&error) => Ok(()),
        ended => ended,
    }
}
