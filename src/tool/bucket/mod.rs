//! `chronik bucket`: whether a bucket, and a queue, have what Chronik relies on, and making both.
//!
//! [`check`] gives one finding for each thing that is relied on, [`init`] one part for each thing that has to be there.
//! Both ask the server for it, and neither claims or locks anything: a broker may be at work meanwhile.

mod attributes;
mod aws;
mod check;
mod init;
mod lifecycle;
mod public_access;
mod right;

use std::path::PathBuf;

use anyhow::Result;
use chronik_store::setting::{BucketKind, BucketSettings, QueueSettings};
use clap::{Args, Subcommand};

use crate::output::CommandOutput;

/// `chronik bucket`
#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// Check that a bucket, and a queue, have what Chronik relies on, and which rights are missing.
    ///
    /// It writes a small object, reads it and deletes it again, all with the rights of a broker, and asks a queue
    /// without touching its jobs. A broker may be at work on the bucket meanwhile.
    Check(Box<StorageOptions>),
    /// Make a bucket, and a queue with its dead letters. What is there already stays as it is.
    Init(Box<StorageOptions>),
}

/// Where history and jobs are, by the settings of the services.
#[derive(Args, Debug)]
pub struct StorageOptions {
    /// Directory in which a bucket on a local directory lies, unless that is set itself.
    #[arg(long, env = "CHRONIK_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub bucket: BucketSettings,
    #[command(flatten)]
    pub queue: QueueSettings,
}

impl BucketCommand {
    pub async fn run(self, output: &CommandOutput) -> Result<()> {
        let (Self::Check(place) | Self::Init(place)) = &self;
        place.bucket.check()?;
        place.queue.check()?;
        match &self {
            Self::Check(place) => check::run(place, output).await,
            Self::Init(place) => init::run(place, output).await,
        }
    }
}

impl StorageOptions {
    /// The bucket, in words.
    fn name(&self) -> Result<String> {
        let within =
            |prefix: &Option<String>| prefix.as_ref().map_or(String::new(), |prefix| format!(", prefix {prefix}"));
        Ok(match self.bucket.object_store_backend {
            BucketKind::Local => format!("directory {}", self.bucket.directory(&self.data_dir).display()),
            BucketKind::S3 => {
                let place = self.bucket.s3.place()?;
                let at = place.endpoint.as_deref().unwrap_or("Amazon S3");
                format!("bucket {} at {at}{}", place.bucket, within(&place.prefix))
            }
            BucketKind::Gcs => {
                let place = self.bucket.gcs.place()?;
                format!("bucket {} at Google Cloud Storage{}", place.bucket, within(&place.prefix))
            }
            BucketKind::Azure => {
                let place = self.bucket.azure.place()?;
                format!("container {} at Azure{}", place.container, within(&place.prefix))
            }
        })
    }
}
