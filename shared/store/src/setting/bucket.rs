//! Where objects go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_service::process::ServiceError;
use clap::Args;

use super::{AzureSettings, GcsSettings, S3Settings};
use crate::{BucketAccess, BucketError, LocalBucket, SharedStore};

/// The bucket.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Bucket")]
pub struct BucketSettings {
    /// The kind of bucket: local (a directory), s3, gcs or azure.
    #[arg(long, env = "OBJECT_STORE_BACKEND", value_name = "KIND", default_value = "local", value_parser = backend)]
    pub object_store_backend: BucketKind,
    /// The bucket's directory [default: bucket in the data directory].
    #[arg(long, env = "LOCAL_STORAGE_PATH", value_name = "DIR")]
    pub local_storage_path: Option<PathBuf>,
    /// S3, and what speaks like it.
    #[command(flatten)]
    pub s3: S3Settings,
    /// Google Cloud Storage.
    #[command(flatten)]
    pub gcs: GcsSettings,
    /// Azure's blobs.
    #[command(flatten)]
    pub azure: AzureSettings,
}

/// A kind of bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketKind {
    /// A directory.
    Local,
    /// S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure's blobs.
    Azure,
}

/// Settings of the bucket that don't fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketSettingsError {
    /// A backend lacks what it needs.
    #[error("OBJECT_STORE_BACKEND is {backend}, but {missing} is not set: {remedy}")]
    Missing {
        /// The backend, as it is written.
        backend: &'static str,
        /// The setting.
        missing: &'static str,
        /// What to give it.
        remedy: &'static str,
    },
    /// A setting that has its effect on another backend only.
    #[error("{given} is set, but OBJECT_STORE_BACKEND is {backend}: set that to {wanted}, or leave {given} out")]
    OtherBackend {
        /// The setting.
        given: &'static str,
        /// The backend that it is for.
        wanted: &'static str,
        /// The one that is chosen.
        backend: &'static str,
    },
    /// One of two settings that go together.
    #[error("{given} is set without {missing}: give both, or none to use {otherwise}")]
    Half {
        /// The one that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
        /// What is used without both.
        otherwise: &'static str,
    },
    /// A value that is nothing of its kind.
    #[error("{setting} is {value:?}: {reason}")]
    Wrong {
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is wrong, and what is accepted.
        reason: String,
    },
}

impl BucketSettings {
    /// Checks what goes beyond a single value.
    pub fn check(&self) -> Result<(), BucketSettingsError> {
        let backend = self.object_store_backend;
        let places = [
            (BucketKind::S3, "S3_BUCKET", given(&self.s3.s3_bucket)),
            (BucketKind::Gcs, "GCS_BUCKET", given(&self.gcs.gcs_bucket)),
            (BucketKind::Azure, "AZURE_CONTAINER", given(&self.azure.azure_container)),
        ];
        // Who names a bucket means it: records must not end up on a local disk instead.
        for (wanted, name, value) in places {
            if wanted != backend && value.is_some() {
                return Err(BucketSettingsError::OtherBackend {
                    given: name,
                    wanted: wanted.name(),
                    backend: backend.name(),
                });
            }
        }
        match backend {
            BucketKind::Local => Ok(()),
            BucketKind::S3 => self.s3.place().map(|_| ()),
            BucketKind::Gcs => self.gcs.place().map(|_| ()),
            BucketKind::Azure => self.azure.place().map(|_| ()),
        }
    }

    /// Opens the bucket. One on a directory is locked by its owner, and has to be there for everybody else; any other
    /// is not asked for anything yet.
    pub async fn open(&self, data_dir: &Path, access: BucketAccess) -> Result<SharedStore, BucketError> {
        self.check()?;
        Ok(match self.object_store_backend {
            BucketKind::Local => Arc::new(LocalBucket::open_for(&self.directory(data_dir), access)?),
            BucketKind::S3 => crate::s3::open(&self.s3.place()?).await?,
            BucketKind::Gcs => crate::gcs::open(&self.gcs.place()?)?,
            BucketKind::Azure => crate::azure::open(&self.azure.place()?)?,
        })
    }

    /// The bucket's directory, given the data directory; for a bucket on a directory alone.
    pub fn directory(&self, data_dir: &Path) -> PathBuf {
        self.local_storage_path.clone().unwrap_or_else(|| data_dir.join("bucket"))
    }
}

impl BucketKind {
    /// As it is written in a setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }
}

/// A setting's text; an empty one counts as not given, as templates leave them.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// The prefix without slashes at its ends; none if it is empty.
pub(super) fn prefix(setting: &'static str, text: &Option<String>) -> Result<Option<String>, BucketSettingsError> {
    let Some(prefix) = given(text).map(|text| text.trim_matches('/')).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match object_store::path::Path::parse(prefix) {
        Ok(path) => Ok(Some(path.into())),
        Err(error) => Err(BucketSettingsError::Wrong {
            setting,
            value: prefix.to_owned(),
            reason: format!("{error}; accepted are names with slashes between them (team/events)"),
        }),
    }
}

fn backend(text: &str) -> Result<BucketKind, String> {
    let kinds = [BucketKind::Local, BucketKind::S3, BucketKind::Gcs, BucketKind::Azure];
    let known = kinds.into_iter().find(|kind| kind.name() == text.trim());
    known.ok_or_else(|| format!("{text:?} is no kind of bucket; accepted are local, s3, gcs and azure"))
}

impl From<BucketSettingsError> for ServiceError {
    fn from(error: BucketSettingsError) -> Self {
        Self::Resource(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        bucket: BucketSettings,
    }

    fn settings(line: &str) -> BucketSettings {
        Program::parse_from(std::iter::once("program").chain(line.split_whitespace())).bucket
    }

    fn told(line: &str) -> String {
        settings(line).check().unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        assert!(backend("floppy").is_err_and(|told| told.contains("floppy") && told.contains("azure")));
    }

    #[test]
    fn each_backend_needs_its_place() {
        for (line, missing) in [
            ("--object-store-backend s3", "S3_BUCKET"),
            ("--object-store-backend gcs", "GCS_BUCKET"),
            ("--object-store-backend azure", "AZURE_CONTAINER"),
            ("--object-store-backend azure --azure-container c", "AZURE_ACCOUNT_NAME"),
        ] {
            let told = told(line);
            assert!(told.contains(&format!("{missing} is not set")), "{line}: {told}");
        }
    }

    #[test]
    fn a_bucket_of_another_backend_is_not_overlooked() {
        let told = told("--s3-bucket b");
        assert!(told.contains("S3_BUCKET is set") && told.contains("is local") && told.contains("to s3"), "{told}");
        settings("--s3-bucket=").check().unwrap();
    }

    #[test]
    fn a_prefix_is_names_with_slashes() {
        assert_eq!(prefix("P", &Some("/a/b/".into())).unwrap().as_deref(), Some("a/b"));
        assert_eq!(prefix("P", &Some("/".into())).unwrap(), None);
        for wrong in ["a//b", "a/../b"] {
            let told = prefix("P", &Some(wrong.into())).unwrap_err().to_string();
            assert!(told.contains("P is") && told.contains(wrong), "{told}");
        }
    }

    #[tokio::test]
    async fn a_directory_is_locked_by_its_owner_and_seen_by_everybody_else() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings("");
        for access in [BucketAccess::Worker, BucketAccess::Reader] {
            let told = settings.open(folder.path(), access).await.unwrap_err().to_string();
            assert!(told.contains("LOCAL_STORAGE_PATH"), "{told}");
        }
        let owner = settings.open(folder.path(), BucketAccess::Owner).await.unwrap();
        assert!(settings.open(folder.path(), BucketAccess::Owner).await.is_err());
        let worker = settings.open(folder.path(), BucketAccess::Worker).await.unwrap();
        let reader = settings.open(folder.path(), BucketAccess::Reader).await.unwrap();
        worker.create("a/b", vec!["x".into()]).await.unwrap();
        assert!(reader.create("a/c", vec![]).await.is_err());
        assert_eq!(reader.read("a/b", None).await.unwrap(), "x");
        assert_eq!(owner.read("a/b", None).await.unwrap(), "x");
    }
}
