//! `chronik bucket init`

mod part;
mod queue;
mod s3;

use std::path::{Path, absolute};

use anyhow::{Context, Result, bail};
use chronik_store::setting::{BucketKind, S3Place};
use serde_json::{Map, Value, json};

use self::part::{PartOutcome, SetupPart};
use super::StorageOptions;
use crate::output::CommandOutput;

/// Makes everything that the settings name and that is not there yet, and says how to go on.
pub async fn run(place: &StorageOptions, output: &CommandOutput) -> Result<()> {
    let settings = &place.bucket;
    let (mut parts, mut exports) = match settings.object_store_backend {
        BucketKind::Local => local(&settings.directory(&place.data_dir))?,
        BucketKind::S3 => {
            let s3 = settings.s3.place()?;
            (s3::make(&s3).await?, exports_of(&s3))
        }
        BucketKind::Gcs => bail!(
            "chronik makes no buckets on Google Cloud Storage: make it with gcloud storage buckets create, then run \
             chronik bucket check"
        ),
        BucketKind::Azure => bail!(
            "chronik makes no containers on Azure: make it with az storage container create, then run chronik bucket \
             check"
        ),
    };
    if let Some(address) = &place.queue.sqs_queue_url {
        let endpoint = place.queue.sqs_endpoint.as_ref();
        parts.extend(queue::make(address, endpoint).await?);
        exports.push(("CHRONIK_QUEUE", "sqs".into()));
        exports.push(("SQS_QUEUE_URL", address.to_string()));
        exports.extend(endpoint.map(|endpoint| ("SQS_ENDPOINT", endpoint.to_string())));
    }
    print(&parts, &exports, output)
}

/// A setting and its value.
type Exports = Vec<(&'static str, String)>;

fn local(directory: &Path) -> Result<(Vec<SetupPart>, Exports)> {
    let directory = absolute(directory)?;
    let name = directory.display().to_string();
    let part = format!("directory {name}");
    let there = directory.is_dir();
    std::fs::create_dir_all(&directory).with_context(|| format!("{part} can't be made"))?;
    let part = if there { SetupPart::kept(part) } else { SetupPart::made(part) };
    Ok((vec![part], vec![("OBJECT_STORE_BACKEND", "local".into()), ("LOCAL_STORAGE_PATH", name)]))
}

/// The settings that say where the bucket is; keys are secrets, and stay where they are.
fn exports_of(place: &S3Place) -> Exports {
    let mut exports = vec![("OBJECT_STORE_BACKEND", "s3".to_owned()), ("S3_BUCKET", place.bucket.clone())];
    let optional = [
        ("S3_PREFIX", place.prefix.clone()),
        ("S3_REGION", place.region.clone()),
        ("S3_ENDPOINT", place.endpoint.clone()),
        ("S3_PATH_STYLE", (place.path_style != place.endpoint.is_some()).then(|| place.path_style.to_string())),
    ];
    exports.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    exports
}

fn print(parts: &[SetupPart], exports: &Exports, output: &CommandOutput) -> Result<()> {
    let changed = parts.iter().any(|part| part.outcome == PartOutcome::Made);
    if output.json {
        let settings = exports.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
        let settings = Value::Object(settings.collect::<Map<_, _>>());
        return output.document(&json!({"changed": changed, "parts": parts, "settings": settings}));
    }
    let rows = parts.iter().map(|part| {
        let outcome = match part.outcome {
            PartOutcome::Made => "made",
            PartOutcome::Kept => "was there",
            PartOutcome::Different => "differs, left as it is",
            PartOutcome::Refused => "not set",
        };
        vec![part.part.clone(), outcome.to_owned(), part.reason.clone().unwrap_or_default()]
    });
    output.table(&["part", "outcome", "why"], rows)?;
    if !changed {
        output.line("\nNothing was changed.")?;
    }
    output.line("\nSettings for the services, beside the credentials:\n")?;
    for (name, value) in exports {
        output.line(&format!("export {name}={value}"))?;
    }
    Ok(())
}
