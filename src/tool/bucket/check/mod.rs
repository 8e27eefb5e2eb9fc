//! `chronik bucket check`

mod contents;
mod finding;
mod objects;
mod protection;
mod queue;

use anyhow::{Result, bail};
use chronik_store::BucketAccess;
use chronik_store::setting::{BucketKind, BucketSettings};
use serde_json::json;

use self::contents::BucketContents;
use self::finding::{CheckFinding, CheckVerdict};
use super::StorageOptions;
use crate::output::CommandOutput;

/// Checks everything that the settings name, prints it, and fails if something is missing.
pub async fn run(place: &StorageOptions, output: &CommandOutput) -> Result<()> {
    let (mut findings, contents) = bucket(place).await;
    if let Some(address) = &place.queue.sqs_queue_url {
        findings.extend(queue::check(address, place.queue.sqs_endpoint.as_ref()).await);
    }
    let missing = findings.iter().filter(|finding| finding.verdict == CheckVerdict::Missing).count();
    if output.json {
        output.document(&json!({
            "bucket": place.name()?,
            "contents": contents,
            "checks": findings,
            "ok": missing == 0,
        }))?;
    } else {
        print(place, &contents, &findings, output)?;
    }
    match missing {
        0 => Ok(()),
        1 => bail!("something that Chronik relies on is missing"),
        count => bail!("{count} things that Chronik relies on are missing"),
    }
}

async fn bucket(place: &StorageOptions) -> (Vec<CheckFinding>, BucketContents) {
    let BucketSettings { object_store_backend, s3, .. } = &place.bucket;
    // Beside the owner: a directory is neither locked nor made.
    let store = match place.bucket.open(&place.data_dir, BucketAccess::Worker).await {
        Ok(store) => store,
        Err(error) => {
            let reason = error.to_string();
            let finding = CheckFinding::ok("bucket", "holds everything").missing(&reason);
            return (vec![finding.remedy(REMEDY)], BucketContents::Unknown { reason });
        }
    };
    let mut findings = objects::check(&store, place).await;
    if !findings.iter().any(|finding| finding.verdict == CheckVerdict::Ok) {
        let reason = "the bucket can't be used".to_owned();
        return (findings, BucketContents::Unknown { reason });
    }
    if let (BucketKind::S3, Ok(s3)) = (object_store_backend, s3.place()) {
        findings.extend(protection::check(&s3).await);
    }
    (findings, BucketContents::of(&store).await)
}

const REMEDY: &str = "name the bucket that is there, or make it with chronik bucket init";

fn print(
    place: &StorageOptions,
    contents: &BucketContents,
    findings: &[CheckFinding],
    output: &CommandOutput,
) -> Result<()> {
    output.line(&format!("{}: {contents}\n", place.name()?))?;
    let rows = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warning => "warning",
            CheckVerdict::Missing => "missing",
            CheckVerdict::Unknown => "unknown",
        };
        [finding.check, verdict, finding.purpose].map(str::to_owned).to_vec()
    });
    output.table(&["check", "result", "what it is for"], rows)?;
    for finding in findings.iter().filter(|finding| finding.found.is_some()) {
        let found = finding.found.as_deref().unwrap_or_default();
        output.line(&format!("\n{}: {found}", finding.check))?;
        if let Some(remedy) = &finding.remedy {
            output.line(&format!("    {remedy}"))?;
        }
    }
    Ok(())
}
