//! A container of Azure's blobs.

use clap::{ArgAction, Args};

use super::bucket::{BucketSettingsError, given, prefix};
use chronik_service::setting::switch;

/// What an operator can say about a container on Azure. Credentials are those of its own environment
/// (`AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`, the machine's identity).
#[derive(Args, Clone, Debug)]
pub struct AzureSettings {
    /// The storage account.
    #[arg(long, env = "AZURE_ACCOUNT_NAME", value_name = "ACCOUNT")]
    pub azure_account_name: Option<String>,
    /// The container.
    #[arg(long, env = "AZURE_CONTAINER", value_name = "CONTAINER")]
    pub azure_container: Option<String>,
    /// An emulator on this machine in place of Azure [default: false].
    #[arg(long, env = "AZURE_USE_EMULATOR", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub azure_use_emulator: Option<bool>,
    /// What all names in the container begin with; one prefix is one cluster.
    #[arg(long, env = "AZURE_PREFIX", value_name = "PREFIX")]
    pub azure_prefix: Option<String>,
}

/// A container on Azure, checked.
#[derive(Clone, Debug)]
pub struct AzurePlace {
    /// The storage account; the emulator has one of its own.
    pub account: Option<String>,
    pub container: String,
    /// Whether it is the emulator's.
    pub emulator: bool,
    /// Without slashes at its ends.
    pub prefix: Option<String>,
}

impl AzureSettings {
    /// Checks all settings together.
    pub fn place(&self) -> Result<AzurePlace, BucketSettingsError> {
        let missing = |missing, remedy| BucketSettingsError::Missing { backend: "azure", missing, remedy };
        let container =
            given(&self.azure_container).ok_or_else(|| missing("AZURE_CONTAINER", "give it the container's name"))?;
        let emulator = self.azure_use_emulator.unwrap_or(false);
        let account = given(&self.azure_account_name).map(str::to_owned);
        if account.is_none() && !emulator {
            let remedy = "give it the storage account's name, or set AZURE_USE_EMULATOR";
            return Err(missing("AZURE_ACCOUNT_NAME", remedy));
        }
        Ok(AzurePlace {
            account,
            container: container.to_owned(),
            emulator,
            prefix: prefix("AZURE_PREFIX", &self.azure_prefix)?,
        })
    }
}
