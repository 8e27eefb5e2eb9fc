//! What a server on S3 does with a bucket by itself. Chronik works without most of it, and not every server knows it.

use aws_sdk_s3::types::BucketVersioningStatus;
use chronik_store::setting::S3Place;

use super::finding::CheckFinding;
use crate::tool::bucket::aws::{AwsRefusal, s3_client};
use crate::tool::bucket::lifecycle::BucketLifecycle;
use crate::tool::bucket::public_access::blocked;
use crate::tool::bucket::right::RequiredRight;

const UPLOADS: CheckFinding = CheckFinding::ok("unfinished uploads", "unfinished uploads are removed");
const EXPIRY: CheckFinding = CheckFinding::ok("no expiry", "history stays until Chronik deletes it");
const PUBLIC: CheckFinding = CheckFinding::ok("no public access", "the bucket can't become public by mistake");
const VERSIONS: CheckFinding = CheckFinding::ok("versions", "what is deleted by mistake can be brought back");

const LIFECYCLE_RIGHT: &str = "s3:GetLifecycleConfiguration";
const INIT: &str = "chronik bucket init adds it";

/// Asks the bucket's server.
pub async fn check(place: &S3Place) -> Vec<CheckFinding> {
    let client = match s3_client(place).await {
        Ok((client, _)) => client,
        Err(error) => {
            let unknown = |finding: CheckFinding| finding.unknown(error.to_string());
            return [UPLOADS, EXPIRY, PUBLIC, VERSIONS].map(unknown).to_vec();
        }
    };
    let lifecycle = BucketLifecycle::of(&client, &place.bucket, place.prefix.as_deref()).await;
    let on = |name| RequiredRight { name, on: format!("arn:aws:s3:::{}", place.bucket) };
    let by_rules =
        |finding: CheckFinding, judge: &dyn Fn(&BucketLifecycle, CheckFinding) -> CheckFinding| match &lifecycle {
            Ok(lifecycle) => judge(lifecycle, finding),
            Err(refusal) => not_told(finding, refusal, &on(LIFECYCLE_RIGHT)),
        };
    vec![
        by_rules(UPLOADS, &uploads),
        by_rules(EXPIRY, &expiry),
        match blocked(&client, &place.bucket).await {
            Ok(blocked) => public(blocked),
            Err(refusal) => not_told(PUBLIC, &refusal, &on("s3:GetBucketPublicAccessBlock")),
        },
        match client.get_bucket_versioning().bucket(&place.bucket).send().await {
            Ok(answer) => {
                let kept = answer.status() == Some(&BucketVersioningStatus::Enabled);
                by_rules(VERSIONS, &|lifecycle, finding| versions(kept, lifecycle, finding))
            }
            Err(error) => not_told(VERSIONS, &error.into(), &on("s3:GetBucketVersioning")),
        },
    ]
}

fn uploads(lifecycle: &BucketLifecycle, finding: CheckFinding) -> CheckFinding {
    match lifecycle.drops_uploads() {
        true => finding,
        false => finding.warning("no lifecycle rule aborts incomplete multipart uploads").remedy(INIT),
    }
}

fn expiry(lifecycle: &BucketLifecycle, finding: CheckFinding) -> CheckFinding {
    match lifecycle.deleter() {
        None => finding,
        Some(rule) => finding
            .missing(format!("the lifecycle rule {rule:?} deletes objects by their age"))
            .remedy("remove that rule, or give it a prefix that is not Chronik's: it deletes history"),
    }
}

fn public(blocked: Option<bool>) -> CheckFinding {
    match blocked {
        Some(true) => PUBLIC,
        Some(false) => PUBLIC
            .warning("the public access block leaves something open")
            .remedy("set all four parts of the bucket's public access block"),
        None => PUBLIC.warning("there is no public access block").remedy(INIT),
    }
}

fn versions(kept: bool, lifecycle: &BucketLifecycle, finding: CheckFinding) -> CheckFinding {
    match (kept, lifecycle.forgets_versions()) {
        (true, true) => finding,
        (true, false) => {
            finding.warning("versions of what is overwritten and deleted are kept, and paid for, for ever").remedy(INIT)
        }
        (false, _) => finding.warning("versioning is off").remedy(INIT),
    }
}

/// The server knows nothing of the kind, or does not answer.
fn not_told(finding: CheckFinding, refusal: &AwsRefusal, right: &RequiredRight) -> CheckFinding {
    if refusal.is_unknown() {
        finding.unknown(format!("not known by this server ({refusal})"))
    } else if refusal.is_forbidden() {
        finding.unknown(format!("these credentials may not ask ({refusal})")).lacks(right)
    } else {
        finding.unknown(format!("the server does not tell: {refusal}"))
    }
}
