//! A container of Azure's blobs.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;

use super::failure::BucketLocation;
use super::{BucketError, SharedStore, client};
use crate::setting::AzurePlace;

/// Opens the container with the credentials of Azure's own environment; the store is not asked for anything yet.
pub(crate) fn open(place: &AzurePlace) -> Result<SharedStore, BucketError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    let plain = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
    if let Some(account) = &place.account {
        builder = builder.with_account(account);
    }
    let objects = builder
        .with_container_name(&place.container)
        .with_use_emulator(place.emulator)
        .with_client_options(client::options(plain.is_some_and(|value| value == "true")))
        .with_retry(client::retries())
        .build()
        .map_err(|source| BucketError::Refused { backend: "azure", source })?;
    let account = match (&place.account, place.emulator) {
        (_, true) => "the emulator".to_owned(),
        (Some(account), false) => format!("Azure account {account}"),
        (None, false) => "Azure".to_owned(),
    };
    let told = BucketLocation {
        name: format!("container {} at {account}", place.container),
        bucket_setting: "AZURE_CONTAINER",
        endpoint_setting: if place.emulator { "AZURITE_BLOB_STORAGE_URL" } else { "AZURE_ACCOUNT_NAME" },
        credentials_setting: "AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID or the identity of this machine",
    };
    client::bucket("azure", objects, place.prefix.as_deref(), told)
}
