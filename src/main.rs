//! The `chronik` command: the whole system in one process, and the operator's tool. It is thin: the services are
//! crates of their own, and the tool speaks Kafka and HTTP like any other client.

mod clock;
mod command;
mod http;
mod kafka;
mod output;
mod server;
mod settings;
mod standalone;
mod tool;

use std::process::ExitCode;

/// The command was understood and failed.
const FAILED: u8 = 1;
/// The command or a setting was not understood.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let command = match command::read(std::env::args().collect(), std::env::vars_os()) {
        Ok(command) => command,
        Err(refusal) => {
            refusal.print();
            return ExitCode::from(if refusal.asked_for() { 0 } else { REFUSED });
        }
    };
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => match runtime.block_on(command.run()) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of our output (`head`, say) has seen enough.
            Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("chronik: {}", output::told(&error));
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            eprintln!("chronik: the system gives no threads: {error}");
            ExitCode::from(FAILED)
        }
    }
}
