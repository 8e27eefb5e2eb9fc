//! A search, step by step:
//!
//! `request` reads what is asked. `topic_layout` asks the broker where its tail begins, then the catalog, and settles
//! for each partition which offsets come from the bucket and which from the tail. `work_plan` makes units of work of
//! that: an archive, `runs` without one, a tail. `executor` takes them in the order of their timestamps; archives
//! propose batches (`candidates`), which may have `moved` since, `scan` reads batches and asks the matcher of every
//! record, `top_hits` keeps the best. What could not be read is reported by `coverage`; batches that no program can
//! read are remembered as `unreadable`.

mod candidates;
mod coverage;
mod cursor;
mod error;
mod executor;
mod moved;
mod order;
mod patience;
mod request;
mod runs;
mod scan;
mod top_hits;
mod topic_layout;
mod unreadable;
mod work_plan;

pub(crate) use coverage::{CoveredRange, MissingCause, MissingRange};
pub(crate) use cursor::PageCursor;
pub(crate) use error::SearchError;
pub(crate) use executor::{SearchAnswer, SearchExecutor};
pub(crate) use moved::MovedBatches;
pub(crate) use request::SearchRequest;
pub(crate) use scan::RecordScanner;
pub(crate) use top_hits::Hit;
pub(crate) use topic_layout::{LayoutSources, PartitionLayout};
pub(crate) use unreadable::UnreadableBatches;
