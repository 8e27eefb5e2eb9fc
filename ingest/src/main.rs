//! `chronik-ingest`: the broker as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_service::cli::main(
        "chronik-ingest",
        "The Kafka broker: acknowledges records and ships them to the bucket.",
        chronik_ingest::run,
    )
}
