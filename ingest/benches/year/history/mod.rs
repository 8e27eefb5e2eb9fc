//! The history of a broker that has been up for as long as one likes, made in minutes: the real state, closing,
//! folding, listing, planner, pages and catalog, on a clock of its own. Batches, segments and archives are only claimed
//! to be there, with the sizes that they would have; objects of metadata are written to a folder.

#![allow(clippy::unwrap_used)]

mod broker;
mod compactor;
mod folder;
mod indexers;
mod load;
mod looks;
mod merger;
mod report;

pub use self::load::{Case, Load};
pub use self::report::Report;

use chronik_ingest::publish::pages::PageLimits;
use chronik_ingest::publish::segment_lists::SegmentListLimits;

use self::broker::Broker;
use self::compactor::Compactor;
use self::indexers::Indexers;
use self::looks::Looks;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How much of history is in the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub pages: PageLimits,
    pub lists: SegmentListLimits,
}

/// Has a broker live under a load, with compaction or without, and says what became of it.
pub fn lived(load: Load, limits: Limits, compaction: bool) -> Report {
    let mut looks = Looks::new();
    let mut broker = Broker::new(load, limits);
    let (mut indexers, compactor) = (Indexers::default(), Compactor::new(limits));
    let end = broker.now + i64::from(load.days) * DAY_MS;
    let (mut next_minute, mut next_hour) = (broker.now + MINUTE_MS, broker.now + HOUR_MS);
    while broker.now < end {
        broker.now += load.segment_ms;
        let segment = broker.ship();
        indexers.see(&segment, broker.now);
        indexers.results(broker.now).into_iter().for_each(|result| broker.take_in(result));
        broker.keep_small();
        if broker.now >= next_minute {
            next_minute = broker.now + MINUTE_MS;
            if compaction {
                compactor.compact(&mut broker);
                merger::merge(&mut broker);
            }
        }
        if broker.now >= next_hour {
            next_hour = broker.now + HOUR_MS;
            broker.forget_the_dead();
            broker.drop_segments();
            looks.look(&mut broker);
        }
        broker.export();
    }
    looks.report(&broker, load, compaction)
}
