//! Who owns the bucket: the holder of the highest claim.
//!
//! `cluster.json` says which cluster the bucket belongs to; `claims/{incarnation}.json` who has used it. Both are created
//! once and never deleted. A broker that finds a claim above its own stops.

use bytes::Bytes;
use chronik_core::ids::Incarnation;
use chronik_core::names::{self, ClaimName};
use chronik_core::store::{SharedStore, StoreError};
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::Uuid;

use crate::clock::now_ms;

/// The version of both documents.
const VERSION: u32 = 0;

/// Why the bucket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody claimed the bucket after us.
    #[error(
        "the bucket was claimed by another broker (incarnation {by}) after this one (incarnation {own}); this broker \
         stops. Its data directory is kept; start it again only with an empty data directory"
    )]
    Fenced {
        /// Our claim.
        own: Incarnation,
        /// The one above it.
        by: Incarnation,
    },
    /// The store let the same name be created twice.
    #[error(
        "the bucket does not refuse to create an object that exists already ({key}); Chronik relies on that to keep two \
         brokers apart: use a store that supports conditional puts"
    )]
    CreateNotRefused {
        /// The object created twice.
        key: String,
    },
    /// A document that this program does not know.
    #[error("{key} in the bucket can't be read by this version of Chronik: {reason}")]
    Unknown {
        /// The document's name.
        key: String,
        /// What does not fit.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct ClusterDocument {
    v: u32,
    cluster: Uuid,
}

#[derive(Serialize, Deserialize)]
struct ClaimDocument {
    v: u32,
    incarnation: Incarnation,
    nonce: String,
    host: String,
    at_ms: i64,
}

/// The cluster a bucket belongs to; `None` if it has never been used.
pub async fn cluster_of(store: &SharedStore) -> Result<Option<Uuid>, ClaimError> {
    let bytes = match store.read(names::CLUSTER, None).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let unknown = |reason: String| ClaimError::Unknown {
        key: names::CLUSTER.into(),
        reason,
    };
    let document: ClusterDocument = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
    match document.v {
        VERSION => Ok(Some(document.cluster)),
        other => Err(unknown(format!("version {other}, known is {VERSION}"))),
    }
}

/// Makes an unused bucket a new cluster's, or returns the cluster of who was faster.
pub async fn found_cluster(store: &SharedStore) -> Result<Uuid, ClaimError> {
    let document = ClusterDocument {
        v: VERSION,
        cluster: Uuid::now_v7(),
    };
    match store.create(names::CLUSTER, vec![json(&document)]).await {
        Ok(()) => Ok(document.cluster),
        Err(StoreError::Exists { .. }) => Ok(cluster_of(store).await?.unwrap_or(document.cluster)),
        Err(error) => Err(error.into()),
    }
}

/// The highest claim on the bucket.
pub async fn highest(store: &SharedStore) -> Result<Option<Incarnation>, ClaimError> {
    let claims = store.list(names::CLAIMS).await?;
    Ok(claims
        .iter()
        .filter_map(|object| object.key.parse::<ClaimName>().ok())
        .map(|name| name.incarnation)
        .max())
}

/// Claims the bucket under the next number after `highest`. Fails if somebody else takes it first.
pub async fn claim_after(store: &SharedStore, highest: Option<Incarnation>) -> Result<Incarnation, ClaimError> {
    let incarnation = Incarnation(highest.map_or(1, |claim| claim.0 + 1));
    let key = ClaimName { incarnation }.to_string();
    let claim = || ClaimDocument {
        v: VERSION,
        incarnation,
        nonce: Ulid::new().to_string(),
        host: std::env::var("HOSTNAME").unwrap_or_default(),
        at_ms: now_ms(),
    };
    match store.create(&key, vec![json(&claim())]).await {
        Ok(()) => {}
        Err(StoreError::Exists { .. }) => {
            return Err(ClaimError::Fenced {
                own: Incarnation(incarnation.0 - 1),
                by: incarnation,
            });
        }
        Err(error) => return Err(error.into()),
    }
    match store.create(&key, vec![json(&claim())]).await {
        Err(StoreError::Exists { .. }) => Ok(incarnation),
        Ok(()) => Err(ClaimError::CreateNotRefused { key }),
        Err(error) => Err(error.into()),
    }
}

/// The right to write to the bucket, as long as nobody claims it anew.
#[derive(Clone, Debug)]
pub struct Ownership {
    store: SharedStore,
    incarnation: Incarnation,
}

impl Ownership {
    /// The holder of `incarnation`.
    pub fn new(store: SharedStore, incarnation: Incarnation) -> Self {
        Self { store, incarnation }
    }

    /// Asks for the next claim's name: as long as nobody has it, the bucket is ours.
    pub async fn check(&self) -> Result<(), ClaimError> {
        let next = Incarnation(self.incarnation.0 + 1);
        match self.store.info(&ClaimName { incarnation: next }.to_string()).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            Ok(_) => Err(ClaimError::Fenced {
                own: self.incarnation,
                by: next,
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn json(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).map(Bytes::from).unwrap_or_default()
}
