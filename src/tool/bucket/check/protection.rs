//! What a server on S3 does with a bucket by itself. Chronik works without most of it, and not every server knows it.

use aws_sdk_s3::types::BucketVersioningStatus;
use chronik_store::setting::S3Place;

use super::finding::Finding;
use crate::tool::bucket::aws::{Refusal, s3_client};
use crate::tool::bucket::lifecycle::Lifecycle;
use crate::tool::bucket::public_access::blocked;
use crate::tool::bucket::right::Right;

const UPLOADS: Finding = Finding::ok("unfinished uploads", "unfinished uploads are removed");
const EXPIRY: Finding = Finding::ok("no expiry", "history stays until Chronik deletes it");
const PUBLIC: Finding = Finding::ok("no public access", "the bucket can't become public by mistake");
const VERSIONS: Finding = Finding::ok("versions", "what is deleted by mistake can be brought back");

const LIFECYCLE_RIGHT: &str = "s3:GetLifecycleConfiguration";
const INIT: &str = "chronik bucket init adds it";

/// Asks the bucket's server.
pub async fn check(place: &S3Place) -> Vec<Finding> {
    let client = match s3_client(place).await {
        Ok((client, _)) => client,
        Err(error) => {
            let unknown = |finding: Finding| finding.unknown(error.to_string());
            return [UPLOADS, EXPIRY, PUBLIC, VERSIONS].map(unknown).to_vec();
        }
    };
    let lifecycle = Lifecycle::of(&client, &place.bucket, place.prefix.as_deref()).await;
    let on = |name| Right { name, on: format!("arn:aws:s3:::{}", place.bucket) };
    let by_rules = |finding: Finding, judge: &dyn Fn(&Lifecycle, Finding) -> Finding| match &lifecycle {
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

fn uploads(lifecycle: &Lifecycle, finding: Finding) -> Finding {
    match lifecycle.drops_uploads() {
        true => finding,
        false => finding.warning("no lifecycle rule aborts incomplete multipart uploads").remedy(INIT),
    }
}

fn expiry(lifecycle: &Lifecycle, finding: Finding) -> Finding {
    match lifecycle.deleter() {
        None => finding,
        Some(rule) => finding
            .missing(format!("the lifecycle rule {rule:?} deletes objects by their age"))
            .remedy("remove that rule, or give it a prefix that is not Chronik's: it deletes history"),
    }
}

fn public(blocked: Option<bool>) -> Finding {
    match blocked {
        Some(true) => PUBLIC,
        Some(false) => PUBLIC
            .warning("the public access block leaves something open")
            .remedy("set all four parts of the bucket's public access block"),
        None => PUBLIC.warning("there is no public access block").remedy(INIT),
    }
}

fn versions(kept: bool, lifecycle: &Lifecycle, finding: Finding) -> Finding {
    match (kept, lifecycle.forgets_versions()) {
        (true, true) => finding,
        (true, false) => {
            finding.warning("versions of what is overwritten and deleted are kept, and paid for, for ever").remedy(INIT)
        }
        (false, _) => finding.warning("versioning is off").remedy(INIT),
    }
}

/// The server knows nothing of the kind, or does not tell.
fn not_told(finding: Finding, refusal: &Refusal, right: &Right) -> Finding {
    if refusal.is_unknown() {
        finding.unknown(format!("not known by this server ({refusal})"))
    } else if refusal.is_forbidden() {
        finding.unknown(format!("these credentials may not ask ({refusal})")).lacks(right)
    } else {
        finding.unknown(format!("the server does not tell: {refusal}"))
    }
}
