//! The indexer as an AWS Lambda function.

use std::process::ExitCode;

fn main() -> ExitCode {
    chronik_indexer::lambda::main()
}
