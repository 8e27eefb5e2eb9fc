//! A batch of messages, one after the other.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use tokio::time::{Instant, timeout_at};

use super::deadline::InvocationDeadline;
use crate::job::parse;
use crate::job_runner::JobRunner;

/// Where SQS says how often it has handed a message out.
const RECEIVES: &str = "ApproximateReceiveCount";

/// An event that no queue sends. All of it counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    /// The failure of a message without an id can't be reported to Lambda.
    #[error("a message of the event has no messageId: the event source has to be an SQS queue")]
    Nameless,
}

/// Works the messages, and names those that are to come again.
pub(super) async fn work(
    runner: &JobRunner,
    event: SqsEvent,
    deadline: InvocationDeadline,
) -> Result<SqsBatchResponse, EventError> {
    let started = Instant::now();
    let messages = event.records.len();
    let named = event.records.into_iter().map(|mut message| Some((message.message_id.take()?, message)));
    let named: Vec<_> = named.collect::<Option<_>>().ok_or(EventError::Nameless)?;
    let mut response = SqsBatchResponse::default();
    for (id, message) in named {
        if !is_done(runner, &message, deadline).await {
            response.add_failure(id);
        }
    }
    tracing::info!(
        messages,
        failed = response.batch_item_failures.len(),
        seconds = started.elapsed().as_secs_f64(),
        "a batch is answered"
    );
    Ok(response)
}

/// Whether the message is done with.
async fn is_done(runner: &JobRunner, message: &SqsMessage, deadline: InvocationDeadline) -> bool {
    let receives = receives(message);
    let job = match parse(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => job,
        Err(reason) => {
            tracing::error!(receives, "a message is left to the dead letters: {reason}");
            runner.metrics.jobs_refused.inc();
            return false;
        }
    };
    let id = job.id().to_owned();
    // A future that is given no time at all could still do a step.
    if Instant::now() >= deadline.end {
        tracing::warn!(job = id, receives, "a job is given back: the batch left no time for it");
        runner.metrics.jobs_interrupted.inc();
        return false;
    }
    let reported = runner.report(job, receives, Some(deadline.enough));
    let reason = match timeout_at(deadline.end, reported).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the invocation's time is up".to_owned(),
    };
    tracing::warn!(job = id, receives, "a job is given back: {reason}");
    runner.metrics.jobs_interrupted.inc();
    false
}

/// How often the message was handed out, this time included.
fn receives(message: &SqsMessage) -> u32 {
    let receives = message.attributes.get(RECEIVES);
    receives.and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use chronik_format::job::JobResult;
    use chronik_service::telemetry::Metrics;
    use chronik_store::memory;
    use serde_json::{Value, json};

    use super::*;

    fn job() -> Value {
        json!({
            "v": 0, "kind": "index", "cluster": "c", "incarnation": 1, "lane": 0, "id": "j", "topic": "t",
            "topic_id": "01900000-0000-7000-8000-000000000001", "index_epoch": 0,
            "inputs": [{"key": "absent", "size": 9, "crc": 0, "runs": [
                {"partition": 0, "first": 0, "last": 1, "position": 0, "length": 9}
            ]}],
            "settings": {"value_format": "auto", "positions": false}
        })
    }

    fn event(messages: &[(&str, Value, u32)]) -> SqsEvent {
        let records: Vec<_> = messages
            .iter()
            .map(|(id, body, receives)| {
                let attributes = json!({RECEIVES: receives.to_string()});
                json!({"messageId": id, "body": body.to_string(), "attributes": attributes, "messageAttributes": {}})
            })
            .collect();
        serde_json::from_value(json!({"Records": records})).unwrap()
    }

    async fn failures(event: SqsEvent, time: Duration) -> (Vec<String>, Vec<JobResult>) {
        let store = memory();
        let runner = JobRunner::new(store.clone(), 1 << 28, &Metrics::new());
        let response = work(&runner, event, InvocationDeadline::of(time)).await.unwrap();
        let mut results = Vec::new();
        for object in store.list("inbox/").await.unwrap() {
            results.push(serde_json::from_slice(&store.read(&object.key, None).await.unwrap()).unwrap());
        }
        let failed = response.batch_item_failures.into_iter().map(|f| f.item_identifier);
        (failed.collect(), results)
    }

    #[tokio::test]
    async fn each_message_has_an_answer_of_its_own() {
        let mut newer = job();
        newer["v"] = json!(9);
        let event = event(&[("newer", newer, 1), ("good", job(), 1), ("no job", json!({}), 7), ("fifth", job(), 5)]);
        let (failed, results) = failures(event, Duration::from_secs(60)).await;
        assert_eq!(failed, ["newer", "no job"]);
        let reasons: Vec<_> = results.iter().map(|result| result.unreadable[0].reason.as_str()).collect();
        assert_eq!(reasons.len(), 2);
        assert!(reasons.iter().any(|reason| reason.contains("absent")));
        assert!(reasons.iter().any(|reason| reason.contains("4 times")));
    }

    #[tokio::test]
    async fn without_time_everything_is_given_back() {
        let (failed, results) = failures(event(&[("a", job(), 1), ("b", job(), 5)]), Duration::ZERO).await;
        assert_eq!((failed.len(), results.len()), (2, 0));
    }

    #[tokio::test]
    async fn a_message_that_can_not_be_named_fails_the_event() {
        let nameless = serde_json::from_value(json!({"Records": [{"body": "x", "attributes": {}}]})).unwrap();
        let runner = JobRunner::new(memory(), 1 << 28, &Metrics::new());
        assert!(work(&runner, nameless, InvocationDeadline::of(Duration::from_secs(9))).await.is_err());
    }
}
