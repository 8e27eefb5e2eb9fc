//! What the clients of all stores have in common.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::failure::BucketLocation;
use super::{BucketError, ObjectBucket, SharedStore};

/// Options of the connections. A call has a deadline of its own, which grows with its size.
pub(super) fn options(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5))
        .with_allow_http(allow_http)
}

/// Tries after the first of a call that the store did not take (503 SlowDown, a connection refused): few enough that
/// the store's own words come before the deadline. The caller retries later.
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(20),
    }
}

/// The bucket, or what lies below `prefix` in it.
pub(super) fn bucket(
    backend: &'static str,
    objects: impl ObjectStore,
    prefix: Option<&str>,
    place: BucketLocation,
) -> Result<SharedStore, BucketError> {
    let objects: Arc<dyn ObjectStore> = match prefix {
        None => Arc::new(objects),
        Some(prefix) => {
            let prefix =
                Path::parse(prefix).map_err(|source| BucketError::Refused { backend, source: source.into() })?;
            Arc::new(PrefixStore::new(objects, prefix))
        }
    };
    Ok(Arc::new(ObjectBucket::at(objects, place)))
}
