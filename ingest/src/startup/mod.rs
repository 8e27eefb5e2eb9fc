//! From a data directory and a bucket to a lane that can run: a restart ([`mod@resume`]), or a first start or a
//! recovery ([`mod@begin`]); then the log is [opened](open), and [compared](mod@confirm) with the bucket's.

mod begin;
mod confirm;
pub mod continuity;
mod copies;
mod error;
mod open;
pub mod recover;
mod resume;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::Latest;
use chronik_format::ids::LaneId;
use chronik_store::SharedStore;

use self::begin::begin;
pub use self::confirm::confirm;
use self::continuity::LogEnd;
use self::copies::refuse;
pub use self::error::StartError;
use self::open::open_lane;
use self::resume::resume;
use crate::data_dir::{DataDir, DirectoryIdentity};
use crate::lane::replay::ReplayedLane;
use crate::ownership::BucketOwnership;
use crate::ownership::heartbeat::Heartbeat;
use crate::settings::IngestSettings;
use crate::wal::WalLog;

/// How often a bucket that can't be reached is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Who owns what, and where the lane stands.
pub struct StartedLane {
    /// The right to the bucket.
    pub ownership: BucketOwnership,
    /// The sign of life in the bucket.
    pub beat: Heartbeat,
    /// Where the log ends.
    pub log_end: LogEnd,
    /// Whether the bucket has confirmed the claim, and that this is where its own log ends. If not, it could not be
    /// reached: [`confirm()`] asks it, and nothing may be written to it before.
    pub confirmed: bool,
    /// The lane's state and tail.
    pub replayed: ReplayedLane,
    /// The lane's log, running.
    pub log: WalLog,
}

/// The bucket, taken up again or claimed.
struct Held {
    ownership: BucketOwnership,
    beat: Heartbeat,
    /// What `latest` said of our claim before this process wrote to it.
    former: Option<Latest>,
    confirmed: bool,
}

/// Opens the lane: restarts from local files, or recovers from the bucket, or begins anew.
pub async fn start(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: LaneId,
) -> Result<StartedLane, StartError> {
    let Held { ownership, beat, former, confirmed } = match data_dir.identity()? {
        Some(identity) => resume(settings, data_dir, store, lane, identity).await?,
        None => begin(settings, data_dir, store, lane).await?,
    };
    let identity = DirectoryIdentity::held(ownership.cluster(), ownership.incarnation());
    let opened = open_lane(settings, data_dir, store, lane, &identity, confirmed).await;
    if opened.is_err()
        && let Some(former) = former
        && let Err(error) = beat.withdraw(former).await
    {
        tracing::warn!("the bucket still says that this broker has it: {error}");
    }
    if let Err(StartError::Continuity(_)) = &opened {
        refuse(data_dir, &ownership);
    }
    let (replayed, log, log_end, confirmed) = opened?;
    data_dir.set_identity(&identity)?;
    Ok(StartedLane { ownership, beat, log_end, confirmed, replayed, log })
}
