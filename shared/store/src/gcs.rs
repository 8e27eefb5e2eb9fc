//! A bucket on Google Cloud Storage.

use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::failure::BucketLocation;
use super::{BucketError, SharedStore, client};
use crate::setting::GcsPlace;

/// Opens the bucket with the credentials of Google's own environment; the store is not asked for anything yet.
pub(crate) fn open(place: &GcsPlace) -> Result<SharedStore, BucketError> {
    let builder = GoogleCloudStorageBuilder::from_env();
    let plain = builder.get_config_value(&GoogleConfigKey::Client(ClientConfigKey::AllowHttp));
    let objects = builder
        .with_bucket_name(&place.bucket)
        .with_client_options(client::options(plain.is_some_and(|value| value == "true")))
        .with_retry(client::retries())
        .build()
        .map_err(|source| BucketError::Refused { backend: "gcs", source })?;
    let told = BucketLocation {
        name: format!("bucket {} at Google Cloud Storage", place.bucket),
        bucket_setting: "GCS_BUCKET",
        endpoint_setting: "the network",
        credentials_setting: "GOOGLE_APPLICATION_CREDENTIALS or the account of this machine",
    };
    client::bucket("gcs", objects, place.prefix.as_deref(), told)
}
