//! Where objects go.

use std::path::{Path, PathBuf};

use clap::Args;

/// The bucket.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Bucket")]
pub struct BucketSettings {
    /// The kind of bucket: local, a directory.
    #[arg(long, env = "OBJECT_STORE_BACKEND", value_name = "KIND", default_value = "local", value_parser = backend)]
    pub object_store_backend: Backend,
    /// The bucket's directory [default: bucket in the data directory].
    #[arg(long, env = "LOCAL_STORAGE_PATH", value_name = "DIR")]
    pub local_storage_path: Option<PathBuf>,
}

/// A kind of bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A directory.
    Local,
}

impl BucketSettings {
    /// The bucket's directory, given the data directory.
    pub fn directory(&self, data_dir: &Path) -> PathBuf {
        self.local_storage_path
            .clone()
            .unwrap_or_else(|| data_dir.join("bucket"))
    }
}

fn backend(text: &str) -> Result<Backend, String> {
    match text {
        "local" => Ok(Backend::Local),
        "s3" | "gcs" | "azure" => Err(format!("{text:?} is not there yet; accepted is local")),
        _ => Err(format!("{text:?} is no kind of bucket; accepted is local")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_told_apart_from_what_never_was() {
        assert!(backend("s3").is_err_and(|told| told.contains("not there yet") && told.contains("local")));
        assert!(backend("floppy").is_err_and(|told| !told.contains("yet") && told.contains("local")));
    }
}
