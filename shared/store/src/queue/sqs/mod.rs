//! SQS, or a server that speaks its protocol ([`SqsQueue`]), found by the queue's URL ([`QueueAddress`]).

mod address;
mod error;
mod policy;

pub use address::{QueueAddress, QueueAddressError, QueueEndpoint};
pub use error::SqsError;
pub use policy::RedrivePolicy;

use std::time::Duration;

use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesOutput;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName};
use prometheus::IntCounter;
use tokio::sync::OnceCell;

use super::{Queue, QueueDelivery, QueueDepth, QueueError, RECEIVES_MAX, check_size};
use chronik_service::telemetry::Metrics;

use self::error::{SqsFailure, about_receipt, failed};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One try of anything but a wait for messages.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);
/// All tries of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);
const TRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// SQS waits no longer.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// What an answer may take beyond the wait.
const WAIT_GRACE: Duration = Duration::from_secs(10);
/// SQS hands out no more at a time.
const MOST_MAX: usize = 10;
/// SQS hides messages no longer.
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// The message attribute that says why a message is among the dead letters.
const REASON_ATTRIBUTE: &str = "reason";
/// Bytes of a reason that go along.
const REASON_BYTES_MAX: usize = 1 << 10;
/// Servers other than AWS's don't care.
const ANY_REGION: &str = "us-east-1";

/// A standard SQS queue with a dead-letter queue. Credentials are those of the standard AWS chain.
#[derive(Debug)]
pub struct SqsQueue {
    client: Client,
    address: QueueAddress,
    /// Known once the queue has answered.
    policy: OnceCell<RedrivePolicy>,
    buried: IntCounter,
}

impl SqsQueue {
    /// The queue at `address`, reached at `endpoint` if not at the address' own server. What can't work is refused: no
    /// credentials, no such queue, no right to ask it, no dead-letter queue. A queue that can't be reached now is
    /// taken: it is a hint, and what depends on it goes on without.
    pub async fn open(
        address: &QueueAddress,
        endpoint: Option<&QueueEndpoint>,
        metrics: &Metrics,
    ) -> Result<Self, SqsError> {
        let queue = Self {
            client: sqs_client(address, endpoint).await?,
            address: address.clone(),
            policy: OnceCell::new(),
            buried: metrics.counter("chronik_queue_buried_total", "Messages moved to the dead letters."),
        };
        match queue.policy().await {
            Ok(policy) if policy.receives_max < RECEIVES_MAX => tracing::warn!(
                "queue {address} gives messages to its dead letters after {} receives; jobs that keep failing are only \
                 reported with at least {RECEIVES_MAX} (maxReceiveCount of its redrive policy)",
                policy.receives_max
            ),
            Ok(_) => {}
            Err(SqsFailure::Queue(error)) => tracing::warn!("jobs wait until the queue answers: {error}"),
            Err(SqsFailure::Refused(error)) => return Err(error),
        }
        Ok(queue)
    }

    /// What the queue does with messages that come too often, asked once.
    async fn policy(&self) -> Result<&RedrivePolicy, SqsFailure> {
        let ask = || async {
            let answer = self
                .attributes(&[QueueAttributeName::RedrivePolicy])
                .await
                .map_err(|error| SqsFailure::of(&self.address, error))?;
            let policy = answer.attributes().and_then(|all| all.get(&QueueAttributeName::RedrivePolicy));
            let policy = policy.and_then(|text| RedrivePolicy::parse(text));
            policy.ok_or_else(|| SqsFailure::Refused(SqsError::NoDeadLetters { queue: self.address.to_string() }))
        };
        self.policy.get_or_try_init(ask).await
    }

    async fn attributes(
        &self,
        names: &[QueueAttributeName],
    ) -> Result<GetQueueAttributesOutput, error::AttributesError> {
        let ask = self.client.get_queue_attributes().queue_url(self.address.as_str());
        ask.set_attribute_names(Some(names.to_vec())).send().await
    }

    async fn set_visibility(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
        let set = self
            .client
            .change_message_visibility()
            .queue_url(self.address.as_str())
            .receipt_handle(receipt)
            .visibility_timeout(seconds(visibility.min(VISIBILITY_MAX)));
        match set.send().await {
            Err(error) if !about_receipt(&error) => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, body: String) -> Result<(), QueueError> {
        check_size(&body)?;
        let send = self.client.send_message().queue_url(self.address.as_str());
        send.message_body(body).send().await.map_err(failed)?;
        Ok(())
    }

    async fn receive(
        &self,
        most: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<QueueDelivery>, QueueError> {
        let wait = wait.min(WAIT_MAX);
        let receive = self
            .client
            .receive_message()
            .queue_url(self.address.as_str())
            .max_number_of_messages(most.clamp(1, MOST_MAX) as i32)
            .visibility_timeout(seconds(visibility.min(VISIBILITY_MAX)))
            .wait_time_seconds(seconds(wait))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        // Not tried again here: what a lost answer handed out would stay hidden beside what the next one hands out.
        let patience = aws_sdk_sqs::config::Builder::new()
            .timeout_config(timeouts(wait + WAIT_GRACE, wait + WAIT_GRACE))
            .retry_config(RetryConfig::disabled());
        let received = receive.customize().config_override(patience).send().await;
        let messages = received.map_err(failed)?.messages.unwrap_or_default();
        messages.into_iter().map(delivery).collect()
    }

    fn waits_at_server(&self) -> bool {
        true
    }

    async fn extend(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
        self.set_visibility(receipt, visibility).await
    }

    async fn acknowledge(&self, receipt: &str) -> Result<(), QueueError> {
        let delete = self.client.delete_message().queue_url(self.address.as_str());
        match delete.receipt_handle(receipt).send().await {
            Err(error) if !about_receipt(&error) => Err(failed(error)),
            _ => Ok(()),
        }
    }

    async fn release(&self, receipt: &str) -> Result<(), QueueError> {
        self.set_visibility(receipt, Duration::ZERO).await
    }

    async fn bury(&self, delivery: &QueueDelivery, reason: &str) -> Result<(), QueueError> {
        let policy = self.policy().await.map_err(SqsFailure::into_queue_error)?;
        let reason = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(attribute(reason))
            .build()
            .map_err(|error| QueueError::Unavailable { message: error.to_string() })?;
        let send = self
            .client
            .send_message()
            .queue_url(self.address.sibling(&policy.dead_letters).as_str())
            .message_body(&delivery.body)
            .message_attributes(REASON_ATTRIBUTE, reason);
        send.send().await.map_err(failed)?;
        self.buried.inc();
        self.acknowledge(&delivery.receipt).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let answer = self.attributes(&names).await.map_err(failed)?;
        let count = |name: &QueueAttributeName| -> Result<usize, QueueError> {
            let count = answer.attributes().and_then(|all| all.get(name));
            count.and_then(|count| count.parse().ok()).ok_or_else(|| QueueError::Unavailable {
                message: format!("{} does not tell {}", self.address, name.as_str()),
            })
        };
        Ok(QueueDepth {
            // A queue with a delivery delay holds messages back first; they wait like the others.
            visible: count(&names[0])? + count(&names[1])?,
            in_flight: count(&names[2])?,
        })
    }
}

/// AWS's client for the queue at `address`, reached at `endpoint` if not at the address' own server.
pub async fn sqs_client(address: &QueueAddress, endpoint: Option<&QueueEndpoint>) -> Result<Client, SqsError> {
    let shared = shared_config(address).await;
    check_credentials(&shared).await?;
    let own = address.endpoint();
    let config = aws_sdk_sqs::config::Builder::from(&shared).endpoint_url(endpoint.unwrap_or(&own).as_str()).build();
    Ok(Client::from_conf(config))
}

async fn shared_config(address: &QueueAddress) -> SdkConfig {
    let region = RegionProviderChain::first_try(address.region().map(|name| Region::new(name.to_owned())))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(Region::new(ANY_REGION));
    let retries =
        RetryConfig::standard().with_max_attempts(TRIES).with_initial_backoff(BACKOFF).with_max_backoff(BACKOFF_MAX);
    aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .retry_config(retries)
        .timeout_config(timeouts(TRY_TIMEOUT, CALL_TIMEOUT))
        .load()
        .await
}

/// Asked for once at the start, so that their absence is not taken for an outage.
async fn check_credentials(shared: &SdkConfig) -> Result<(), SqsError> {
    let reason = match shared.credentials_provider() {
        None => "no source of credentials is known".to_owned(),
        Some(source) => match source.provide_credentials().await {
            Ok(_) => return Ok(()),
            Err(error) => error::words(&error),
        },
    };
    Err(SqsError::NoCredentials { reason })
}

fn timeouts(one_try: Duration, call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(one_try)
        .operation_attempt_timeout(one_try)
        .operation_timeout(call)
        .build()
}

/// Whole seconds, rounded up; callers bound it by SQS's limits.
fn seconds(duration: Duration) -> i32 {
    duration.as_millis().div_ceil(1000) as i32
}

fn delivery(message: Message) -> Result<QueueDelivery, QueueError> {
    let lacks = |what: &str| QueueError::Unavailable { message: format!("a message came without {what}") };
    let receives = message
        .attributes()
        .and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount))
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| lacks("the number of its receives"))?;
    Ok(QueueDelivery {
        receipt: message.receipt_handle.ok_or_else(|| lacks("a receipt"))?,
        body: message.body.ok_or_else(|| lacks("a body"))?,
        receives,
    })
}

/// The text as far as an attribute takes it: not empty, no control characters, not too long.
fn attribute(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(REASON_BYTES_MAX));
    for c in text.chars() {
        let c = if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c };
        if kept.len() + c.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    if kept.is_empty() { "unknown".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_what_an_attribute_may_hold() {
        assert_eq!(attribute("a\u{0}b\nc\u{ffff}"), "a b c ");
        assert_eq!(attribute(""), "unknown");
        assert_eq!(attribute(&"é".repeat(1000)), "é".repeat(512));
    }

    #[test]
    fn a_time_is_whole_seconds_and_never_shorter() {
        let times = [0, 1, 1000, 1001, 20_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(times, [0, 1, 1, 2, 20]);
        assert_eq!(seconds(VISIBILITY_MAX), 43_200);
    }
}
