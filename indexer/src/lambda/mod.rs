//! The indexer as an AWS Lambda function whose event source is the job queue.
//!
//! Lambda hands over a batch of messages and deletes those that the answer does not name as failed
//! (`ReportBatchItemFailures` has to be on). So a message is acknowledged as in the loop: when its result is in the
//! inbox. A message that no indexer can work on fails each time, until the queue moves it to its dead letters.
//!
//! Time is respected by `deadline`: at half of it no further run is begun, and what there is becomes
//! the result; shortly before its end the rest is returned to the queue. Memory is respected by the runner, whose limit
//! follows the function's size, and `/tmp` by never writing to it.

mod batch;
mod deadline;
mod log;
mod settings;

use std::process::ExitCode;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use chronik_service::telemetry::Metrics;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};
use tracing::Instrument;

use self::batch::work;
use self::deadline::InvocationDeadline;
use self::settings::{LambdaSettings, LambdaStartError};
use crate::job_runner::JobRunner;

/// Runs the function until Lambda ends the process, and says on standard error why it could not start.
pub fn main() -> ExitCode {
    log::start();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), LambdaStartError> {
    let settings = LambdaSettings::read()?;
    let runtime = tokio::runtime::Runtime::new().map_err(LambdaStartError::Threads)?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: LambdaSettings) -> Result<(), LambdaStartError> {
    let memory_bytes = settings.memory_bytes()?;
    let runner = JobRunner::new(settings.open_store().await?, memory_bytes, &Metrics::new());
    tracing::info!(memory_bytes, "the function is ready");
    let runner = &runner;
    let handler = service_fn(move |event| handle(runner, event));
    Runtime::new(handler).run().await.map_err(LambdaStartError::Runtime)
}

async fn handle(runner: &JobRunner, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, lambda_runtime::Error> {
    let (event, context) = event.into_parts();
    let deadline = InvocationDeadline::until(context.deadline());
    let span = tracing::info_span!("invocation", request_id = context.request_id);
    Ok(work(runner, event, deadline).instrument(span).await?)
}
