//! A bucket on Google Cloud Storage.

use clap::Args;

use super::bucket::{BucketSettingsError, given, prefix};

/// What an operator can say about a bucket on Google Cloud Storage. Credentials are those of its own environment
/// (`GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, the machine's account).
#[derive(Args, Clone, Debug)]
pub struct GcsSettings {
    /// The bucket.
    #[arg(long, env = "GCS_BUCKET", value_name = "BUCKET")]
    pub gcs_bucket: Option<String>,
    /// The project of the bucket: accepted without effect, as the bucket's name alone is enough to find it.
    #[arg(long, env = "GCS_PROJECT_ID", value_name = "PROJECT")]
    pub gcs_project_id: Option<String>,
    /// What all names in the bucket begin with; one prefix is one cluster.
    #[arg(long, env = "GCS_PREFIX", value_name = "PREFIX")]
    pub gcs_prefix: Option<String>,
}

/// A bucket on Google Cloud Storage, checked.
#[derive(Clone, Debug)]
pub struct GcsPlace {
    pub bucket: String,
    /// Without slashes at its ends.
    pub prefix: Option<String>,
}

impl GcsSettings {
    /// Checks all settings together.
    pub fn place(&self) -> Result<GcsPlace, BucketSettingsError> {
        let Some(bucket) = given(&self.gcs_bucket) else {
            return Err(BucketSettingsError::Missing {
                backend: "gcs",
                missing: "GCS_BUCKET",
                remedy: "give it the bucket's name",
            });
        };
        Ok(GcsPlace { bucket: bucket.to_owned(), prefix: prefix("GCS_PREFIX", &self.gcs_prefix)? })
    }
}
