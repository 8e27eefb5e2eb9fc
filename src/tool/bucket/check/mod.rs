//! `chronik bucket check`

mod contents;
mod finding;
mod objects;
mod protection;
mod queue;

use anyhow::{Result, bail};
use chronik_store::Access;
use chronik_store::setting::{Backend, BucketSettings};
use serde_json::json;

use self::contents::Contents;
use self::finding::{Finding, Verdict};
use super::Place;
use crate::output::Output;

/// Checks everything that the settings name, prints it, and fails if something is missing.
pub async fn run(place: &Place, output: &Output) -> Result<()> {
    let (mut findings, contents) = bucket(place).await;
    if let Some(address) = &place.queue.sqs_queue_url {
        findings.extend(queue::check(address, place.queue.sqs_endpoint.as_ref()).await);
    }
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
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

async fn bucket(place: &Place) -> (Vec<Finding>, Contents) {
    let BucketSettings { object_store_backend, s3, .. } = &place.bucket;
    // Beside the owner: a directory is neither locked nor made.
    let store = match place.bucket.open(&place.data_dir, Access::Worker).await {
        Ok(store) => store,
        Err(error) => {
            let reason = error.to_string();
            let finding = Finding::ok("bucket", "holds everything").missing(&reason);
            return (vec![finding.remedy(REMEDY)], Contents::Unknown { reason });
        }
    };
    let mut findings = objects::check(&store, place).await;
    if !findings.iter().any(|finding| finding.verdict == Verdict::Ok) {
        let reason = "the bucket can't be used".to_owned();
        return (findings, Contents::Unknown { reason });
    }
    if let (Backend::S3, Ok(s3)) = (object_store_backend, s3.place()) {
        findings.extend(protection::check(&s3).await);
    }
    (findings, Contents::of(&store).await)
}

const REMEDY: &str = "name the bucket that is there, or make it with chronik bucket init";

fn print(place: &Place, contents: &Contents, findings: &[Finding], output: &Output) -> Result<()> {
    output.line(&format!("{}: {contents}\n", place.name()?))?;
    let rows = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "missing",
            Verdict::Unknown => "unknown",
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
