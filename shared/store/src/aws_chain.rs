//! Credentials of the standard AWS chain: environment, profile files, web identity, container and instance roles.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// How long before their end credentials are fetched anew: a request and its retries have to fit in.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Asks the chain when there are no credentials or they are about to end. Two calls that ask at the same time both get
/// an answer, and either is kept.
#[derive(Debug)]
pub(super) struct AwsChain {
    environment: SdkConfig,
    held: ArcSwapOption<Held>,
}

#[derive(Debug)]
struct Held {
    credential: Arc<AwsCredential>,
    expiry: Option<SystemTime>,
}

impl AwsChain {
    pub fn new(environment: SdkConfig) -> Self {
        Self { environment, held: ArcSwapOption::empty() }
    }

    fn is_fresh(&self, held: &Held) -> bool {
        let now = self.environment.time_source().map(|time| time.now());
        match (held.expiry, now) {
            (None, _) => true,
            (Some(expiry), Some(now)) => now + MARGIN < expiry,
            (Some(_), None) => false,
        }
    }
}

#[async_trait]
impl CredentialProvider for AwsChain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        if let Some(held) = self.held.load_full().filter(|held| self.is_fresh(held)) {
            return Ok(held.credential.clone());
        }
        let unknown = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "S3: without S3_ACCESS_KEY and S3_SECRET_KEY the AWS credentials of this machine are used",
            source,
        };
        let chain = self.environment.credentials_provider();
        let chain = chain.ok_or_else(|| unknown("there is no chain of them".into()))?;
        let credentials = chain.provide_credentials().await.map_err(|error| unknown(error.into()))?;
        let credential = Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(str::to_owned),
        });
        self.held.store(Some(Arc::new(Held { credential: credential.clone(), expiry: credentials.expiry() })));
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::atomic::{AtomicU64, Ordering};

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::{SharedCredentialsProvider, error::CredentialsError, future};
    use aws_smithy_async::time::{SharedTimeSource, TimeSource};

    use super::*;

    /// Credentials that are numbered, and last an hour from the time of the request.
    #[derive(Clone, Debug, Default)]
    struct Account {
        asked: Arc<AtomicU64>,
        seconds: Arc<AtomicU64>,
    }

    impl TimeSource for Account {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
        }
    }

    impl ProvideCredentials for Account {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let key = format!("key-{}", self.asked.fetch_add(1, Ordering::Relaxed));
            let expiry = self.now() + Duration::from_secs(3600);
            let credentials = Credentials::new(key, "secret", None, Some(expiry), "test");
            future::ProvideCredentials::ready(Ok::<_, CredentialsError>(credentials))
        }
    }

    #[tokio::test]
    async fn credentials_are_kept_until_they_are_about_to_end() {
        let account = Account::default();
        let environment = SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(account.clone()))
            .time_source(SharedTimeSource::new(account.clone()))
            .build();
        let chain = AwsChain::new(environment);
        let key = async || chain.get_credential().await.unwrap().key_id.clone();
        assert_eq!(key().await, "key-0");
        account.seconds.store(3600 - 301, Ordering::Relaxed);
        assert_eq!(key().await, "key-0");
        account.seconds.store(3600 - 300, Ordering::Relaxed);
        assert_eq!(key().await, "key-1");
        assert_eq!(key().await, "key-1");
        assert!(!format!("{chain:?}").contains("secret\""));
    }

    #[tokio::test]
    async fn a_machine_without_credentials_is_told_what_to_set() {
        let chain = AwsChain::new(SdkConfig::builder().build());
        let told = chain.get_credential().await.unwrap_err().to_string();
        assert!(told.contains("S3_ACCESS_KEY"), "{told}");
    }
}
