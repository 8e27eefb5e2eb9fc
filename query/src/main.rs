//! `chronik-query`: search as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_service::cli::main(
        "chronik-query",
        "A query worker: searches and reads old records, straight from the bucket.",
        chronik_query::run,
    )
}
