//! What is in the bucket already.

use chronik_format::catalog::Latest;
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::names;
use chronik_ingest::ownership::claim::{self, ClaimError};
use chronik_store::SharedStore;
use futures::TryStreamExt;
use serde::Serialize;
use uuid::Uuid;

/// Whose the bucket is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum BucketContents {
    /// Nothing is in it.
    Empty,
    /// Nothing of Chronik's.
    Foreign,
    /// A cluster's.
    Cluster {
        cluster: Uuid,
        /// The highest claim; none if a broker died before its first.
        incarnation: Option<Incarnation>,
        /// Its holder, in words.
        owner: Option<String>,
        /// Whether that one released the bucket in good order.
        released: bool,
    },
    /// It can't be read.
    Unknown { reason: String },
}

impl BucketContents {
    pub async fn of(store: &SharedStore) -> Self {
        Self::read(store).await.unwrap_or_else(|error| Self::Unknown { reason: error.to_string() })
    }

    async fn read(store: &SharedStore) -> Result<Self, ClaimError> {
        let Some(cluster) = claim::cluster_of(store).await? else {
            let objects = store.pages("").try_next().await?.unwrap_or_default();
            // What an earlier check could not delete does not make the bucket foreign.
            let foreign = objects.iter().any(|object| !object.key.starts_with(names::PROBES));
            return Ok(if foreign { Self::Foreign } else { Self::Empty });
        };
        let incarnation = claim::highest(store).await?;
        let owner = match incarnation {
            Some(incarnation) => Some(claim::owner(store, incarnation).await),
            None => None,
        };
        Ok(Self::Cluster {
            cluster,
            incarnation,
            owner,
            released: incarnation.is_some() && released_by(store).await == incarnation,
        })
    }
}

/// Who has given the bucket up, if anybody has.
async fn released_by(store: &SharedStore) -> Option<Incarnation> {
    let key = names::latest(LaneId::SOLE);
    let latest = Latest::decode(&key, &store.read(&key, None).await.ok()?).ok()?;
    latest.released.then_some(latest.incarnation)
}

impl std::fmt::Display for BucketContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Foreign => f.write_str("there are objects in it, but no cluster's"),
            Self::Unknown { reason } => write!(f, "what is in it can't be read: {reason}"),
            Self::Cluster { cluster, owner, released, .. } => {
                write!(f, "cluster {cluster}")?;
                match owner {
                    Some(owner) if *released => write!(f, ", released by {owner}"),
                    Some(owner) => write!(f, ", owned by {owner}"),
                    None => f.write_str(", never owned"),
                }
            }
        }
    }
}
