//! What Chronik relies on in a queue, asked without touching a job.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use chronik_store::queue::{QueueAddress, QueueEndpoint, RECEIVES_MAX, RedrivePolicy, sqs_client};

use super::finding::CheckFinding;
use crate::tool::bucket::attributes::QueueAttributes;
use crate::tool::bucket::aws::AwsRefusal;
use crate::tool::bucket::right::RequiredRight;

const QUEUE: CheckFinding = CheckFinding::ok("queue", "jobs reach indexers");
const DEAD: CheckFinding = CheckFinding::ok("dead letters", "unknown messages leave the queue");
const RECEIVES: CheckFinding = CheckFinding::ok("receives", "a job that keeps failing is reported, not lost");
const HIDDEN: CheckFinding = CheckFinding::ok("visibility", "a job is not given to two indexers at a time");
const KEPT: CheckFinding = CheckFinding::ok("retention", "jobs and dead letters wait for indexers and for people");
const ACKNOWLEDGE: CheckFinding = CheckFinding::ok("acknowledge jobs", "an indexer removes a job that is done");
const EXTEND: CheckFinding = CheckFinding::ok("extend jobs", "an indexer keeps a job that takes long");
const SEND: CheckFinding = CheckFinding::ok("send jobs", "the broker gives jobs to indexers");
const RECEIVE: CheckFinding = CheckFinding::ok("receive jobs", "an indexer takes jobs");
const BURY: CheckFinding = CheckFinding::ok("bury jobs", "an indexer puts what is no job to the dead letters");

/// The time of the indexer as a Lambda function; a queue must hide what it is given for as long at least.
const FUNCTION_SECONDS: u64 = 300;
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// A receipt that belongs to no message.
const NO_RECEIPT: &str = "chronik-bucket-check";

/// Asks the queue. If it does not answer, only that is said.
pub async fn check(address: &QueueAddress, endpoint: Option<&QueueEndpoint>) -> Vec<CheckFinding> {
    let client = match sqs_client(address, endpoint).await {
        Ok(client) => client,
        Err(error) => return vec![QUEUE.missing(error.to_string())],
    };
    let jobs = match QueueAttributes::of(&client, address).await {
        Ok(jobs) => jobs,
        Err(refusal) => return vec![absent(QUEUE, address, &refusal)],
    };
    let mut findings = vec![QUEUE];
    let policy = jobs.policy();
    match &policy {
        Some(policy) => {
            let dead = QueueAttributes::of(&client, &address.sibling(&policy.dead_letters)).await;
            findings.push(dead_letters(policy, address, dead.as_ref()));
            findings.push(receives(policy));
            findings.push(visibility(&jobs));
            findings.push(retention(&jobs, dead.ok().as_ref()));
        }
        None => {
            let remedy = "give the queue a redrive policy; chronik bucket init adds one";
            findings.push(DEAD.missing("the queue has no redrive policy").remedy(remedy));
            findings.push(visibility(&jobs));
            findings.push(retention(&jobs, None));
        }
    }
    findings.extend(rights(&client, address, policy.as_ref()).await);
    findings
}

fn absent(finding: CheckFinding, address: &QueueAddress, refusal: &AwsRefusal) -> CheckFinding {
    if refusal.is_absent_queue() {
        let remedy = "make it, by chronik bucket init for one, or mend SQS_QUEUE_URL";
        return finding.missing(format!("there is no queue {address}")).remedy(remedy);
    }
    let finding = finding.missing(format!("{address} does not tell: {refusal}"));
    match refusal.is_forbidden() {
        true => finding.lacks(&on("sqs:GetQueueAttributes", address)),
        false => finding.remedy("check SQS_QUEUE_URL, SQS_ENDPOINT and the AWS credentials of this machine"),
    }
}

fn dead_letters(
    policy: &RedrivePolicy,
    jobs: &QueueAddress,
    dead: Result<&QueueAttributes, &AwsRefusal>,
) -> CheckFinding {
    let name = &policy.dead_letters;
    match dead {
        Ok(_) => DEAD,
        Err(refusal) if refusal.is_absent_queue() => {
            DEAD.missing(format!("the redrive policy names {name}, which is not there")).remedy("make that queue")
        }
        Err(refusal) => DEAD
            .unknown(format!("{name} does not tell ({refusal})"))
            .lacks(&on("sqs:GetQueueAttributes", &jobs.sibling(name))),
    }
}

fn receives(policy: &RedrivePolicy) -> CheckFinding {
    if policy.receives_max >= RECEIVES_MAX {
        return RECEIVES;
    }
    let found = format!("jobs go to the dead letters after {} receives", policy.receives_max);
    RECEIVES.missing(found).remedy(format!("set maxReceiveCount of the redrive policy to {RECEIVES_MAX} or more"))
}

fn visibility(jobs: &QueueAttributes) -> CheckFinding {
    match jobs.number(&QueueAttributeName::VisibilityTimeout) {
        None => HIDDEN.unknown("the server does not tell"),
        Some(seconds) if seconds < FUNCTION_SECONDS => HIDDEN
            .warning(format!(
                "jobs are hidden for {seconds} s: enough for workers, which say themselves how long, not for functions"
            ))
            .remedy("with indexers as Lambda functions, set VisibilityTimeout to six times the function's time"),
        Some(_) => HIDDEN,
    }
}

fn retention(jobs: &QueueAttributes, dead: Option<&QueueAttributes>) -> CheckFinding {
    let kept = |queue: &QueueAttributes| queue.number(&QueueAttributeName::MessageRetentionPeriod);
    let Some(seconds) = kept(jobs) else {
        return KEPT.unknown("the server does not tell");
    };
    if seconds < DAY_SECONDS {
        return KEPT
            .warning(format!("jobs are forgotten after {seconds} s, and then sent again"))
            .remedy("set MessageRetentionPeriod to a day or more");
    }
    match dead.and_then(kept) {
        Some(dead) if dead <= seconds => KEPT
            .warning(format!(
                "dead letters are forgotten {dead} s after they were sent as jobs, which are kept for {seconds} s"
            ))
            .remedy("set MessageRetentionPeriod of the dead-letter queue higher, to 14 days say"),
        _ => KEPT,
    }
}

/// What a receipt that belongs to no message lets us ask; the rest can't be asked without disturbing jobs.
async fn rights(client: &Client, address: &QueueAddress, policy: Option<&RedrivePolicy>) -> Vec<CheckFinding> {
    let url = address.as_str();
    let delete = client.delete_message().queue_url(url).receipt_handle(NO_RECEIPT);
    let delete = delete.send().await.map(drop).map_err(AwsRefusal::from);
    let extend = client.change_message_visibility().queue_url(url);
    let extend = extend.receipt_handle(NO_RECEIPT).visibility_timeout(0);
    let extend = extend.send().await.map(drop).map_err(AwsRefusal::from);
    let mut findings = vec![
        allowed(ACKNOWLEDGE, delete, &on("sqs:DeleteMessage", address)),
        allowed(EXTEND, extend, &on("sqs:ChangeMessageVisibility", address)),
        not_asked(SEND, "adding", &on("sqs:SendMessage", address)),
        not_asked(RECEIVE, "taking", &on("sqs:ReceiveMessage", address)),
    ];
    if let Some(policy) = policy {
        let dead = on("sqs:SendMessage", &address.sibling(&policy.dead_letters));
        findings.push(not_asked(BURY, "adding", &dead));
    }
    findings
}

/// Any answer but a refusal of the right is one to the receipt.
fn allowed(finding: CheckFinding, answer: Result<(), AwsRefusal>, right: &RequiredRight) -> CheckFinding {
    match answer {
        Err(refusal) if refusal.is_forbidden() => {
            finding.warning(format!("not allowed ({refusal}): a broker does not need it, indexers do")).lacks(right)
        }
        Err(refusal) if refusal.status.is_none() => finding.unknown(refusal.to_string()),
        _ => finding,
    }
}

fn not_asked(finding: CheckFinding, act: &str, right: &RequiredRight) -> CheckFinding {
    finding.unknown(format!("can't be asked without {act} a message; it needs {right}"))
}

fn on(name: &'static str, queue: &QueueAddress) -> RequiredRight {
    RequiredRight { name, on: queue.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::bucket::check::finding::CheckVerdict;

    fn attributes(visibility: u64, retention: u64) -> QueueAttributes {
        let pairs = [
            (QueueAttributeName::VisibilityTimeout, visibility),
            (QueueAttributeName::MessageRetentionPeriod, retention),
        ];
        QueueAttributes::from(pairs.map(|(name, value)| (name, value.to_string())))
    }

    #[test]
    fn each_bound_is_judged() {
        let policy = |receives_max| RedrivePolicy { dead_letters: "dead".into(), receives_max };
        assert_eq!(receives(&policy(5)).verdict, CheckVerdict::Ok);
        assert_eq!(receives(&policy(4)).verdict, CheckVerdict::Missing);
        assert_eq!(visibility(&attributes(300, 0)).verdict, CheckVerdict::Ok);
        assert_eq!(visibility(&attributes(299, 0)).verdict, CheckVerdict::Warning);
        for (jobs, dead, verdict) in [
            (DAY_SECONDS, DAY_SECONDS + 1, CheckVerdict::Ok),
            (DAY_SECONDS - 1, DAY_SECONDS, CheckVerdict::Warning),
            (DAY_SECONDS, DAY_SECONDS, CheckVerdict::Warning),
        ] {
            let found = retention(&attributes(0, jobs), Some(&attributes(0, dead)));
            assert_eq!(found.verdict, verdict, "{jobs} {dead}");
        }
        let silent = QueueAttributes::from([]);
        assert_eq!(visibility(&silent).verdict, CheckVerdict::Unknown);
        assert_eq!(retention(&silent, None).verdict, CheckVerdict::Unknown);
    }
}
