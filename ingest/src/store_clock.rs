//! The bucket's clock, which tells whether ours may be trusted with what can't be undone.

use bytes::Bytes;
use chronik_format::ids::Timestamp;
use chronik_format::names::ProbeName;
use chronik_store::{Store, StoreError};
use ulid::Ulid;

use crate::clock::millis;

/// The most that the two may differ, ms.
const SKEW_MS_MAX: i64 = 60 * 60 * 1000;

/// By how many seconds the bucket's clock is ahead of ours, which says `now`, if that is more than an hour either way;
/// by the time of an object that is written just now.
pub async fn disagrees_by(store: &dyn Store, now: Timestamp) -> Result<Option<i64>, StoreError> {
    let probe = ProbeName { ulid: Ulid::new() }.to_string();
    store.create(&probe, vec![Bytes::from_static(b"probe")]).await?;
    let written = store.info(&probe).await;
    store.delete(&probe).await?;
    let skew = millis(written?.last_modified).saturating_sub(now);
    Ok((skew.saturating_abs() > SKEW_MS_MAX).then_some(skew / 1000))
}
