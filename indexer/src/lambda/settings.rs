//! What an operator can set about the function: by its environment alone.

use std::path::Path;

use chronik_service::setting::{AbsentSetting, ByteSize, absent_setting_in};
use chronik_store::setting::{BucketKind, BucketSettings};
use chronik_store::{BucketAccess, BucketError, SharedStore};
use clap::Parser;

/// What a function needs beside the work: the program, its runtime, connections.
const PROGRAM_BYTES: u64 = 96 << 20;
/// The smallest function that can hold a segment of 64 MiB, its index and the archive.
const FUNCTION_MEBIBYTES_MIN: u64 = 512;
/// Names that Lambda gives to every function.
const LAMBDA: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
];

/// Why the function does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum LambdaStartError {
    /// A value is not understood.
    #[error("{0}")]
    Unclear(#[from] clap::Error),
    /// A setting of what is not there yet.
    #[error(transparent)]
    Absent(#[from] AbsentSetting),
    /// It was started by hand.
    #[error("{name} is not set: this program is started by AWS Lambda; `chronik indexer` runs anywhere else")]
    NoLambda { name: &'static str },
    /// The segments would not fit into memory.
    #[error(
        "the function has {mebibytes} MB of memory, in which a segment and its index do not fit: \
         give it {FUNCTION_MEBIBYTES_MIN} MB or more"
    )]
    TooSmall { mebibytes: u64 },
    /// A directory has to be named.
    #[error("OBJECT_STORE_BACKEND is local, and LOCAL_STORAGE_PATH is not set: a function has no bucket of its own")]
    NoBucket,
    /// The bucket can't be opened.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The system gives no threads.
    #[error("the system gives no threads: {0}")]
    Threads(std::io::Error),
    /// The runtime API failed; Lambda starts the function again.
    #[error("Lambda's runtime API failed: {0}")]
    Runtime(lambda_runtime::Error),
}

/// Settings of the function.
#[derive(Debug, Parser)]
#[command(name = "bootstrap")]
pub(super) struct LambdaSettings {
    #[command(flatten)]
    bucket: BucketSettings,
    /// Memory that building an archive may take [default: what the function has, less what the program needs].
    #[arg(long, env = "CHRONIK_INDEXER_MEMORY_BYTES", value_name = "SIZE")]
    indexer_memory_bytes: Option<ByteSize>,
    #[arg(long, env = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", value_name = "MB")]
    function_memory: u64,
}

impl LambdaSettings {
    /// Reads the environment.
    pub(super) fn read() -> Result<Self, LambdaStartError> {
        let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        if let Some(name) = LAMBDA.into_iter().find(|name| !names.iter().any(|given| given == name)) {
            return Err(LambdaStartError::NoLambda { name });
        }
        if let Some(absent) = absent_setting_in([], names) {
            return Err(absent.into());
        }
        Ok(Self::try_parse_from(["bootstrap"])?)
    }

    /// Memory for the work, bytes.
    pub(super) fn memory_bytes(&self) -> Result<usize, LambdaStartError> {
        if self.function_memory < FUNCTION_MEBIBYTES_MIN {
            return Err(LambdaStartError::TooSmall { mebibytes: self.function_memory });
        }
        let most = ByteSize((self.function_memory << 20) - PROGRAM_BYTES);
        let wanted = self.indexer_memory_bytes.unwrap_or(most);
        if wanted > most {
            tracing::warn!("CHRONIK_INDEXER_MEMORY_BYTES is {wanted}, the function's memory allows {most}: using that");
        }
        Ok(wanted.min(most).as_usize())
    }

    /// The bucket, to read segments from and to add archives and results to.
    pub(super) async fn open_store(&self) -> Result<SharedStore, LambdaStartError> {
        if self.bucket.object_store_backend == BucketKind::Local && self.bucket.local_storage_path.is_none() {
            return Err(LambdaStartError::NoBucket);
        }
        Ok(self.bucket.open(Path::new("."), BucketAccess::Worker).await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn settings(line: &str) -> LambdaSettings {
        LambdaSettings::parse_from(std::iter::once("bootstrap").chain(line.split_whitespace()))
    }

    #[test]
    fn memory_follows_the_function_unless_less_is_wanted() {
        let bytes = |line: &str| settings(line).memory_bytes().unwrap();
        assert_eq!(bytes("--function-memory 1024"), (1024 - 96) << 20);
        assert_eq!(bytes("--function-memory 1024 --indexer-memory-bytes 256MiB"), 256 << 20);
        assert_eq!(bytes("--function-memory 512 --indexer-memory-bytes 4GiB"), (512 - 96) << 20);
    }

    #[tokio::test]
    async fn what_can_not_work_is_refused_with_what_to_do() {
        let small = settings("--function-memory 256").memory_bytes().unwrap_err().to_string();
        assert!(small.contains("256 MB") && small.contains("512 MB"), "{small}");
        let nowhere = settings("--function-memory 512").open_store().await.unwrap_err().to_string();
        assert!(nowhere.contains("LOCAL_STORAGE_PATH"), "{nowhere}");
        let by_hand = LambdaSettings::read().unwrap_err().to_string();
        assert!(by_hand.contains("AWS_LAMBDA_RUNTIME_API"), "{by_hand}");
    }
}
