//! Who owns the bucket: the holder of the highest claim.
//!
//! `cluster.json` says which cluster the bucket belongs to; `claims/{incarnation}.json` who has used it. Both are
//! created once and never deleted. A broker that finds a claim above its own stops.

use bytes::Bytes;
use chronik_format::ids::{Incarnation, LaneId, Timestamp};
use chronik_format::names::{self, ClaimName, SegmentName};
use chronik_format::segment::SegmentReader;
use chronik_store::{SharedStore, StoreError};
use chrono::{DateTime, SecondsFormat};
use futures::TryStreamExt;
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
    /// A later owner claimed the bucket.
    #[error(
        "the bucket was claimed by another broker (incarnation {by}) after this one (incarnation {own}), which may not \
         write to it any more. The data directory is kept; to start again, give an empty one with --data-dir \
         (CHRONIK_DATA_DIR)"
    )]
    Fenced {
        /// Our claim.
        own: Incarnation,
        /// The one above it.
        by: Incarnation,
    },
    /// Two processes hold the same claim.
    #[error(
        "another process serves with a copy of this broker's data directory (both are incarnation {own}), and started \
         later: this one acknowledges nothing any more. Stop one of them for good. The two directories may hold different \
         records for the same offsets since the copy was made: go on with one of them, and keep the other until you have \
         seen that nothing is missing"
    )]
    Doubled {
        /// The claim of both.
        own: Incarnation,
    },
    /// A process with a copy of our data directory has our claim, and lives.
    #[error(
        "another process serves with a copy of this data directory (both are incarnation {own}): it wrote to the bucket \
         after the last process here did, and again while this one was looking. Stop one of them for good. The two \
         directories may hold different records for the same offsets since the copy was made: go on with one of them, and \
         keep the other until you have seen that nothing is missing"
    )]
    Copied {
        /// The claim of both.
        own: Incarnation,
    },
    /// What a bucket that was used must have is not there.
    #[error(
        "the bucket holds {found}, but not {missing}: it was lost, and this broker does not begin a new history upon an \
         old one. Put it back from a copy or an older version of the object{hint}; or give an empty bucket"
    )]
    Incomplete {
        /// What there is.
        found: String,
        /// What there is not.
        missing: &'static str,
        /// What it has to say, if that is known.
        hint: String,
    },
    /// Another broker took the next number first.
    #[error(
        "another broker claimed the bucket (incarnation {by}) while this one was starting, and owns it now: let that one \
         serve, or give this one another bucket"
    )]
    Taken {
        /// The claim.
        by: Incarnation,
    },
    /// No number is left for a claim.
    #[error(
        "the bucket holds {key}, the last claim that there can be: no broker could claim the bucket after it. Each recovery \
         takes the next number, so no broker has come that far: look at what the object says, and if none of yours wrote \
         it, remove it; otherwise give an empty bucket"
    )]
    Last {
        /// The claim's name.
        key: String,
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
    /// What was written here before belongs to another cluster.
    #[error(
        "the data directory belongs to cluster {own}, but the bucket to {bucket}: choose the right bucket, or another \
         data directory with --data-dir (CHRONIK_DATA_DIR)"
    )]
    Foreign {
        /// Our cluster.
        own: Uuid,
        /// The bucket's cluster, in words.
        bucket: String,
    },
    /// A document that this program does not know.
    #[error(
        "{key} in the bucket can't be read: {reason}. It is damaged, or a newer version of Chronik wrote it: put the object \
         back from a copy or an earlier version of it, or start that version"
    )]
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

/// Who claimed the bucket, for people to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimDocument {
    v: u32,
    incarnation: Incarnation,
    /// Distinguishes claims of one number.
    nonce: String,
    /// The machine's name.
    pub host: String,
    /// By that machine's clock, ms since the epoch.
    pub at_ms: Timestamp,
}

/// The cluster a bucket belongs to; `None` if it has never been used.
pub async fn cluster_of(store: &SharedStore) -> Result<Option<Uuid>, ClaimError> {
    let bytes = match store.read(names::CLUSTER, None).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    decode_cluster(&bytes).map(Some)
}

fn decode_cluster(bytes: &[u8]) -> Result<Uuid, ClaimError> {
    let unknown = |reason: String| ClaimError::Unknown { key: names::CLUSTER.into(), reason };
    let document: ClusterDocument = serde_json::from_slice(bytes).map_err(|error| unknown(error.to_string()))?;
    match document.v {
        VERSION => Ok(document.cluster),
        other => Err(unknown(format!("version {other}, known is {VERSION}"))),
    }
}

/// Makes an unused bucket a new cluster's, or returns the cluster of who was faster. A bucket that was used is refused.
pub async fn found_cluster(store: &SharedStore) -> Result<Uuid, ClaimError> {
    if let Some(found) = any_below(store, &[names::CLAIMS, names::LANES, names::TOPICS]).await? {
        // Who was faster has founded it before.
        return match cluster_of(store).await? {
            Some(cluster) => Ok(cluster),
            None => Err(ClaimError::Incomplete { hint: hint(store, &found).await, found, missing: names::CLUSTER }),
        };
    }
    let document = ClusterDocument { v: VERSION, cluster: Uuid::now_v7() };
    match store.create(names::CLUSTER, vec![json(&document)]).await {
        Ok(()) => Ok(document.cluster),
        Err(StoreError::Exists { .. }) => Ok(cluster_of(store).await?.unwrap_or(document.cluster)),
        Err(error) => Err(error.into()),
    }
}

/// The highest claim on the bucket.
pub async fn highest(store: &SharedStore) -> Result<Option<Incarnation>, ClaimError> {
    let claims = store.list(names::CLAIMS).await?;
    Ok(claims.iter().filter_map(|object| object.key.parse::<ClaimName>().ok()).map(|name| name.incarnation).max())
}

/// The highest claim on the bucket of a cluster; `None` only if nothing was ever written under one.
pub async fn highest_of_used(store: &SharedStore) -> Result<Option<Incarnation>, ClaimError> {
    if let Some(claim) = highest(store).await? {
        return Ok(Some(claim));
    }
    let Some(found) = any_below(store, &[names::LANES, names::TOPICS]).await? else {
        return Ok(None);
    };
    // Who was faster has claimed it before.
    match highest(store).await? {
        None => Err(ClaimError::Incomplete { found, missing: "claims/{incarnation}.json", hint: String::new() }),
        claim => Ok(claim),
    }
}

/// The name of an object below one of `prefixes`.
async fn any_below(store: &SharedStore, prefixes: &[&str]) -> Result<Option<String>, StoreError> {
    for prefix in prefixes {
        let mut pages = store.pages(prefix);
        while let Some(page) = pages.try_next().await? {
            if let Some(object) = page.into_iter().next() {
                return Ok(Some(object.key));
            }
        }
    }
    Ok(None)
}

/// What `cluster.json` has to say, by a segment near by.
async fn hint(store: &SharedStore, found: &str) -> String {
    let segment = match any_below(store, &[&SegmentName::prefix(LaneId(0))]).await {
        Ok(segment) => segment,
        Err(error) => {
            tracing::debug!("no segment near {found} names the cluster: {error}");
            None
        }
    };
    let Some(segment) = segment else { return String::new() };
    match SegmentReader::open(store.clone(), &segment).await {
        Ok(reader) => {
            let cluster = reader.header().origin.cluster;
            let document = json(&ClusterDocument { v: VERSION, cluster });
            let document = String::from_utf8_lossy(&document).into_owned();
            format!(" (by segment {segment} it says {document})")
        }
        Err(_) => String::new(),
    }
}

/// The number after `claim`, by which it can be followed.
pub fn after(claim: Incarnation) -> Result<Incarnation, ClaimError> {
    claim.next().ok_or_else(|| ClaimError::Last { key: ClaimName { incarnation: claim }.to_string() })
}

/// Claims the bucket under the next number after `highest`. Fails if another broker takes it first, or if the store
/// would let one take it again.
pub async fn claim_after(store: &SharedStore, highest: Option<Incarnation>) -> Result<Incarnation, ClaimError> {
    let incarnation = after(highest.unwrap_or_default())?;
    let key = ClaimName { incarnation }.to_string();
    // A create of unknown outcome that is tried again finds its own nonce.
    let claim =
        || ClaimDocument { v: VERSION, incarnation, nonce: Ulid::new().to_string(), host: host(), at_ms: now_ms() };
    match store.create(&key, vec![json(&claim())]).await {
        Ok(()) => {}
        Err(StoreError::Exists { .. }) => return Err(ClaimError::Taken { by: incarnation }),
        Err(error) => return Err(error.into()),
    }
    match store.create(&key, vec![json(&claim())]).await {
        Err(StoreError::Exists { .. }) => Ok(incarnation),
        Ok(()) => Err(ClaimError::CreateNotRefused { key }),
        Err(error) => Err(error.into()),
    }
}

/// What a claim says of its holder; `None` if it says nothing that can be read.
pub async fn holder(store: &SharedStore, incarnation: Incarnation) -> Option<ClaimDocument> {
    let bytes = store.read(&ClaimName { incarnation }.to_string(), None).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The holder of a claim, in words.
pub async fn owner(store: &SharedStore, claim: Incarnation) -> String {
    match holder(store, claim).await {
        Some(holder) => holder.words(claim),
        None => format!("the broker of incarnation {claim}"),
    }
}

impl ClaimDocument {
    fn words(&self, claim: Incarnation) -> String {
        let Self { host, at_ms, .. } = self;
        let at = match DateTime::from_timestamp_millis(*at_ms) {
            Some(at) => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            None => format!("{at_ms} ms after 1970"),
        };
        format!("the broker on {host} (incarnation {claim}, since {at})")
    }
}

fn host() -> String {
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = std::env::var("HOSTNAME").or_else(|_| kernel());
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn json(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).map(Bytes::from).unwrap_or_default()
}

/// Reads any bytes as `cluster.json` and as a claim, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_documents(bytes: &[u8]) {
    let _ = decode_cluster(bytes);
    if let Ok(claim) = serde_json::from_slice::<ClaimDocument>(bytes) {
        let _ = claim.words(claim.incarnation);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
    use chronik_store::{PatientStore, memory};

    use super::*;

    #[tokio::test]
    async fn a_number_is_claimed_once() {
        let store = memory();
        assert_eq!(highest(&store).await.unwrap(), None);
        assert_eq!(claim_after(&store, None).await.unwrap(), Incarnation(1));
        let late = claim_after(&store, None).await;
        assert!(matches!(late, Err(ClaimError::Taken { by: Incarnation(1) })));
        assert_eq!(highest(&store).await.unwrap(), Some(Incarnation(1)));
        assert_eq!(claim_after(&store, Some(Incarnation(1))).await.unwrap(), Incarnation(2));
    }

    #[tokio::test]
    async fn the_last_number_is_named_instead_of_beginning_anew() {
        let store = memory();
        store.create("claims/ffffffff.json", vec![Bytes::new()]).await.unwrap();
        let highest = highest(&store).await.unwrap();
        let refused = claim_after(&store, highest).await.unwrap_err();
        assert!(refused.to_string().contains("claims/ffffffff.json"), "{refused}");
        let before_last = claim_after(&memory(), Some(Incarnation(u32::MAX - 1))).await.unwrap();
        assert_eq!(before_last, Incarnation(u32::MAX));
    }

    #[tokio::test]
    async fn a_holder_is_told_whatever_time_its_claim_says() {
        let store = memory();
        for (at_ms, told) in [
            (0, "1970-01-01T00:00:00Z"),
            (-5, "1969-12-31T23:59:59Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59Z"),
            (253_402_300_800_000, "+10000-01-01T00:00:00Z"),
            (i64::MAX, "9223372036854775807 ms after 1970"),
        ] {
            let incarnation = Incarnation(7);
            let claim = ClaimDocument { v: VERSION, incarnation, nonce: String::new(), host: "h".into(), at_ms };
            store.overwrite("claims/00000007.json", json(&claim)).await.unwrap();
            let words = format!("the broker on h (incarnation 00000007, since {told})");
            assert_eq!(owner(&store, incarnation).await, words);
        }
    }

    /// Lets everything be created anew, as a store without conditional puts does.
    #[derive(Debug)]
    struct Forgetful(SharedStore);

    #[async_trait::async_trait]
    impl chronik_store::Store for Forgetful {
        async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
            self.0.overwrite(key, parts.concat().into()).await
        }
        async fn upload(&self, key: &str) -> Result<Box<dyn chronik_store::ObjectUpload>, StoreError> {
            self.0.upload(key).await
        }
        async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
            self.0.overwrite(key, bytes).await
        }
        async fn read(&self, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Bytes, StoreError> {
            self.0.read(key, range).await
        }
        async fn info(&self, key: &str) -> Result<chronik_store::ObjectInfo, StoreError> {
            self.0.info(key).await
        }
        async fn list(&self, prefix: &str) -> Result<Vec<chronik_store::ObjectInfo>, StoreError> {
            self.0.list(prefix).await
        }
        async fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.0.delete(key).await
        }
    }

    #[tokio::test]
    async fn a_store_that_creates_the_same_name_twice_is_refused() {
        let store: SharedStore = std::sync::Arc::new(Forgetful(memory()));
        let refused = claim_after(&store, None).await;
        assert!(matches!(refused, Err(ClaimError::CreateNotRefused { key }) if key == "claims/00000001.json"));
    }

    #[tokio::test]
    async fn a_claim_of_unknown_outcome_is_none_of_ours() {
        let faulty = std::sync::Arc::new(FaultyStore::new(memory()));
        faulty.fail(StoreOperation::Create, "claims/", StoreFault::After, 1);
        let store: SharedStore = faulty;
        assert!(matches!(claim_after(&store, None).await, Err(ClaimError::Store(_))));
        assert_eq!(highest(&store).await.unwrap(), Some(Incarnation(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_knows_its_own_claim_from_anothers() {
        let faulty = std::sync::Arc::new(FaultyStore::new(memory()));
        let store: SharedStore = std::sync::Arc::new(PatientStore::new(faulty.clone()));
        faulty.fail(StoreOperation::Create, "claims/", StoreFault::After, 2);
        assert_eq!(claim_after(&store, None).await.unwrap(), Incarnation(1));
        faulty.fail(StoreOperation::Create, "claims/", StoreFault::Before, 5);
        let late = claim_after(&store, None).await;
        assert!(matches!(late, Err(ClaimError::Taken { by: Incarnation(1) })), "{late:?}");
    }

    fn incomplete(refused: Result<impl std::fmt::Debug, ClaimError>, names: [&str; 2]) -> String {
        let Err(error @ ClaimError::Incomplete { .. }) = refused else {
            panic!("{refused:?}");
        };
        let told = error.to_string();
        assert!(names.iter().all(|name| told.contains(name)), "{told}");
        told
    }

    #[tokio::test]
    async fn a_used_bucket_that_lost_what_says_whose_it_is_is_not_founded_again() {
        for left in ["claims/00000001.json", "lanes/00000000/checkpoints/x", "topics/t/archives/x"] {
            let store = memory();
            store.create(left, vec![Bytes::from_static(b"{}")]).await.unwrap();
            incomplete(found_cluster(&store).await, [names::CLUSTER, left]);
            assert_eq!(cluster_of(&store).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_used_bucket_that_lost_its_claims_is_not_claimed_as_a_new_one() {
        let store = memory();
        found_cluster(&store).await.unwrap();
        assert_eq!(highest_of_used(&store).await.unwrap(), None, "who founded it may have ended before it claimed it");
        let left = "lanes/00000000/checkpoints/x";
        store.create(left, vec![Bytes::from_static(b"{}")]).await.unwrap();
        incomplete(highest_of_used(&store).await, ["claims/", left]);
        claim_after(&store, None).await.unwrap();
        assert_eq!(highest_of_used(&store).await.unwrap(), Some(Incarnation(1)));
    }
}
