//! `chronik-indexer`: a worker that turns segments into archives, as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_service::cli::main(
        "chronik-indexer",
        "An indexer: takes jobs from the queue and builds archives in the bucket.",
        chronik_indexer::run,
    )
}
