//! A queue with its dead letters, as the Terraform templates make them.

use anyhow::{Context, Result, bail};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName::{
    self, KmsMasterKeyId, MessageRetentionPeriod, QueueArn, ReceiveMessageWaitTimeSeconds, RedriveAllowPolicy,
    RedrivePolicy as Redrive, SqsManagedSseEnabled, VisibilityTimeout,
};
use chronik_store::queue::{QueueAddress, QueueEndpoint, RECEIVES_MAX, sqs_client};
use serde_json::json;

use super::part::SetupPart;
use crate::tool::bucket::attributes::QueueAttributes;
use crate::tool::bucket::aws::AwsRefusal;

/// Six times the time of the indexer as a Lambda function.
const VISIBILITY_SECONDS: u32 = 6 * 300;
const RETENTION_SECONDS: u32 = 4 * 24 * 3600;
const DEAD_RETENTION_SECONDS: u32 = 14 * 24 * 3600;
const WAIT_SECONDS: u32 = 20;
/// On the fifth receive the indexer reports a job as failed; what comes once more than that is no job at all.
const RECEIVES: u32 = RECEIVES_MAX + 1;

/// Makes what is not there. Without the queues themselves there is nothing to go on with.
pub async fn make(address: &QueueAddress, endpoint: Option<&QueueEndpoint>) -> Result<Vec<SetupPart>> {
    let client = sqs_client(address, endpoint).await?;
    let before = read(&client, address).await?;
    let policy = before.as_ref().and_then(QueueAttributes::policy);
    let dead_name =
        policy.as_ref().map_or_else(|| format!("{}-dead", address.name()), |policy| policy.dead_letters.clone());
    let dead = Queue::new(&client, address.sibling(&dead_name));
    let mut parts = dead.make(&[(MessageRetentionPeriod, DEAD_RETENTION_SECONDS.to_string())]).await?;
    let dead_arn = dead.arn().await?;
    let redrive = json!({"deadLetterTargetArn": dead_arn, "maxReceiveCount": RECEIVES}).to_string();

    let jobs = Queue::new(&client, address.clone());
    parts.extend(
        jobs.make(&[
            (VisibilityTimeout, VISIBILITY_SECONDS.to_string()),
            (MessageRetentionPeriod, RETENTION_SECONDS.to_string()),
            (ReceiveMessageWaitTimeSeconds, WAIT_SECONDS.to_string()),
        ])
        .await?,
    );
    parts.push(match policy {
        Some(policy) if policy.receives_max < RECEIVES_MAX => {
            let found = format!("after {} receives, Chronik needs {RECEIVES_MAX} or more", policy.receives_max);
            SetupPart::different(REDRIVE, found)
        }
        Some(_) => SetupPart::kept(REDRIVE),
        None => jobs.add(Redrive, REDRIVE, redrive).await,
    });
    let allow = json!({"redrivePermission": "byQueue", "sourceQueueArns": [jobs.arn().await?]});
    parts.push(dead.add(RedriveAllowPolicy, "dead letters are taken from that queue alone", allow.to_string()).await);
    for queue in [&jobs, &dead] {
        parts.push(queue.encrypt().await);
    }
    Ok(parts)
}

const REDRIVE: &str = "jobs that come too often go to the dead letters";

struct Queue<'a> {
    client: &'a Client,
    address: QueueAddress,
}

impl<'a> Queue<'a> {
    fn new(client: &'a Client, address: QueueAddress) -> Self {
        Self { client, address }
    }

    /// Makes the queue with `attributes`, or says what differs from them in the one that is there.
    async fn make(&self, attributes: &[(QueueAttributeName, String)]) -> Result<Vec<SetupPart>> {
        let name = self.address.name();
        let part = format!("queue {name}");
        if let Some(there) = read(self.client, &self.address).await? {
            let differing = attributes.iter().filter_map(|(attribute, wanted)| {
                let found = there.text(attribute).filter(|found| found != wanted)?;
                let part = format!("{} of queue {name}", attribute.as_str());
                Some(SetupPart::different(part, format!("{found}, it would be made with {wanted}")))
            });
            return Ok(std::iter::once(SetupPart::kept(part)).chain(differing).collect());
        }
        let create = self.client.create_queue().queue_name(name);
        let create = create.set_attributes(Some(attributes.iter().cloned().collect()));
        let made = match create.send().await.map_err(AwsRefusal::from) {
            Ok(answer) => answer.queue_url.unwrap_or_default(),
            Err(refusal) if refusal.is_forbidden() => bail!("{part} can't be made ({refusal}): allow sqs:CreateQueue"),
            Err(refusal) => bail!("{part} can't be made: {refusal}"),
        };
        // The name alone goes into the request: account and region are those of the credentials and the server.
        if read(self.client, &self.address).await?.is_none() {
            bail!("{part} was made as {made}, which is not {}: mend SQS_QUEUE_URL", self.address);
        }
        Ok(vec![SetupPart::made(part)])
    }

    async fn arn(&self) -> Result<String> {
        let attributes = read(self.client, &self.address).await?;
        let arn = attributes.and_then(|attributes| attributes.text(&QueueArn).map(str::to_owned));
        arn.with_context(|| format!("{} does not tell its ARN", self.address))
    }

    /// Sets an attribute that is not there.
    async fn add(&self, attribute: QueueAttributeName, part: &str, value: String) -> SetupPart {
        let shown = async || match QueueAttributes::of(self.client, &self.address).await {
            Ok(attributes) => Ok(attributes.text(&attribute).is_some_and(|text| text != "false")),
            Err(refusal) => Err(SetupPart::refused(part, refusal)),
        };
        match shown().await {
            Ok(true) => return SetupPart::kept(part),
            Ok(false) => {}
            Err(refused) => return refused,
        }
        let set = self.client.set_queue_attributes().queue_url(self.address.as_str());
        let set = set.attributes(attribute.clone(), value);
        if let Err(error) = set.send().await {
            return SetupPart::refused(part, AwsRefusal::from(error));
        }
        match shown().await {
            Ok(true) => SetupPart::made(part),
            Ok(false) => SetupPart::refused(part, "the server takes it and does not keep it"),
            Err(refused) => refused,
        }
    }

    /// Encrypts messages at rest with SQS's own key, unless a key of one's own does so already.
    async fn encrypt(&self) -> SetupPart {
        let part = format!("encryption of queue {}", self.address.name());
        let attributes = QueueAttributes::of(self.client, &self.address).await;
        if attributes.is_ok_and(|attributes| attributes.text(&KmsMasterKeyId).is_some()) {
            return SetupPart::kept(part);
        }
        self.add(SqsManagedSseEnabled, &part, "true".into()).await
    }
}

/// A queue's attributes; nothing if it is not there.
async fn read(client: &Client, address: &QueueAddress) -> Result<Option<QueueAttributes>> {
    match QueueAttributes::of(client, address).await {
        Ok(attributes) => Ok(Some(attributes)),
        Err(refusal) if refusal.is_absent_queue() => Ok(None),
        Err(refusal) if refusal.is_forbidden() => {
            bail!("{address} does not tell ({refusal}): allow sqs:GetQueueAttributes, or mend SQS_QUEUE_URL")
        }
        Err(refusal) => bail!("{address} can't be asked: {refusal}; check SQS_QUEUE_URL and SQS_ENDPOINT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terraform_templates_make_the_same_queues() {
        let template = include_str!("../../../../infra/terraform/queue.tf");
        assert_eq!((RETENTION_SECONDS, DEAD_RETENTION_SECONDS), (345_600, 1_209_600));
        assert_eq!(VISIBILITY_SECONDS, 1800);
        for same in [
            "message_retention_seconds  = 4 * 24 * 3600".to_owned(),
            "message_retention_seconds = 14 * 24 * 3600".to_owned(),
            "visibility_timeout_seconds = min(6 * var.indexer.timeout_seconds, 43200)".to_owned(),
            format!("receive_wait_time_seconds  = {WAIT_SECONDS}\n"),
            format!("maxReceiveCount = {RECEIVES} "),
        ] {
            assert!(template.contains(&same), "{same}");
        }
        let variables = include_str!("../../../../infra/terraform/variables.tf");
        assert!(variables.contains("timeout_seconds = optional(number, 300)"));
    }
}
