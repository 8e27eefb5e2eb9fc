//! A search, step by step:
//!
//! `request` reads what is asked. `standing` asks the broker where its tail stands, then the catalog, and settles for each partition
//! which offsets come from the bucket and which from the tail. `plan` makes units of work of that: an archive, `runs` without one, a tail.
//! `walk` takes them in the order of their timestamps; archives propose batches (`candidates`), `scan` reads batches and asks the
//! matcher of every record, `page` keeps the best hits. What could not be read ends up in `missing`; batches that nobody can read
//! are remembered as `unreadable`.

mod candidates;
mod cursor;
mod error;
mod missing;
mod order;
mod page;
mod plan;
mod request;
mod runs;
mod scan;
mod standing;
mod time;
mod unreadable;
mod walk;

pub(crate) use error::SearchError;
pub(crate) use missing::{Cause, Covered, Missing};
pub(crate) use page::Hit;
pub(crate) use request::SearchRequest;
pub(crate) use scan::Scanner;
pub(crate) use standing::{PartitionStanding, Sources};
pub(crate) use unreadable::Unreadable;
pub(crate) use walk::{Answer, Searcher};
