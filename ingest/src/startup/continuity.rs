//! Whether the local log goes on where the bucket's log of the same incarnation stands.
//!
//! An older copy of a data directory, put back, would give the same offsets out a second time and ship other records
//! for the same indices. The process that went on from that copy's end has left something in the bucket: an export or a
//! checkpoint of a later index, or the segment that follows the last one that the copy knows. What is looked at does
//! not grow with history: the names of exports and checkpoints, and the segments from there on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chronik_format::ids::LogIndex;
use chronik_format::names::{CheckpointName, ExportName, SegmentName};
use chronik_format::origin::Origin;
use chronik_format::segment::{self, SegmentError, SegmentHeader, SegmentReader};
use chronik_store::{SharedStore, StoreError};

use crate::log::SharedLogReader;
use crate::publish::segments::{self, ShipError};

/// Why nothing may be shipped from the data directory.
#[derive(Debug, thiserror::Error)]
pub enum ContinuityError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A segment can't be read.
    #[error(transparent)]
    Segment(SegmentError),
    /// The local log can't be read.
    #[error(transparent)]
    Log(#[from] ShipError),
    /// The bucket's log is longer.
    #[error(
        "the log in the data directory {} ends at index {end}, but the bucket has {object} of index {index} from the same \
         broker: the directory is an older copy, or has lost what was newest in it. Going on from it would give offsets out \
         a second time. Start with an empty data directory (--data-dir, CHRONIK_DATA_DIR) to recover everything that was \
         shipped from the bucket; keep this one until you have seen that nothing is missing", directory.display()
    )]
    Behind {
        /// The data directory.
        directory: PathBuf,
        /// Where its log ends.
        end: LogIndex,
        /// What the bucket has.
        object: String,
        /// Up to which index.
        index: LogIndex,
    },
    /// The bucket has other records for the same indices.
    #[error(
        "the log in the data directory {} and segment {key} in the bucket differ, though both are of the same broker: the \
         directory is an older copy that was written to again. Start with an empty data directory (--data-dir, \
         CHRONIK_DATA_DIR) to recover everything that was shipped from the bucket; what was acknowledged from this one \
         since is in it alone, so keep it", directory.display()
    )]
    Forked {
        /// The data directory.
        directory: PathBuf,
        /// The segment's name.
        key: String,
    },
}

impl ContinuityError {
    /// Whether the bucket did not answer, and may later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_passing())
    }
}

impl From<SegmentError> for ContinuityError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Store(error) => error.into(),
            error => Self::Segment(error),
        }
    }
}

/// Where the local log stood at the start.
#[derive(Clone)]
pub struct LogEnd {
    /// Where it lies.
    pub directory: PathBuf,
    /// Whose log it is.
    pub origin: Origin,
    /// The last index in a segment that it knows of.
    pub shipped: LogIndex,
    /// The last index.
    pub end: LogIndex,
    /// Its frames.
    pub log: SharedLogReader,
}

impl LogEnd {
    /// Compares with what the bucket has. Every segment that was uploaded and not registered must hold what the log
    /// does.
    pub async fn compare(&self, store: &SharedStore) -> Result<(), ContinuityError> {
        self.compare_names(store).await?;
        let mut next = BTreeSet::from([self.shipped + 1]);
        while let Some(first) = next.pop_first() {
            for name in self.segments_from(store, first).await? {
                self.check_end(name.to_string(), name.last)?;
                self.compare_segment(store, &name).await?;
                next.insert(name.last + 1);
            }
        }
        Ok(())
    }

    /// Both kinds of objects are written after the log is.
    async fn compare_names(&self, store: &SharedStore) -> Result<(), ContinuityError> {
        for export in store.list(&ExportName::prefix(self.origin.lane)).await? {
            match export.key.parse::<ExportName>() {
                Ok(name) if name.incarnation == self.origin.incarnation => self.check_end(export.key, name.index)?,
                _ => {}
            }
        }
        for checkpoint in store.list(&CheckpointName::prefix(self.origin.lane)).await? {
            match checkpoint.key.parse::<CheckpointName>() {
                Ok(name) if name.incarnation == self.origin.incarnation => {
                    self.check_end(checkpoint.key, name.index)?
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_end(&self, object: String, index: LogIndex) -> Result<(), ContinuityError> {
        if index <= self.end {
            return Ok(());
        }
        Err(ContinuityError::Behind { directory: self.directory.clone(), end: self.end, object, index })
    }

    async fn segments_from(&self, store: &SharedStore, first: LogIndex) -> Result<Vec<SegmentName>, StoreError> {
        let folder = SegmentName::folder(self.origin.lane, first);
        let after = SegmentName::before(&folder, self.origin.incarnation, first);
        let listed = store.list_after(&folder, &after).await?;
        let names = listed.iter().filter_map(|object| object.key.parse().ok());
        Ok(names
            .take_while(|name: &SegmentName| (name.incarnation, name.first) == (self.origin.incarnation, first))
            .filter(|name| name.first <= name.last)
            .collect())
    }

    async fn compare_segment(&self, store: &SharedStore, name: &SegmentName) -> Result<(), ContinuityError> {
        let key = name.to_string();
        let theirs = match SegmentReader::open(store.clone(), &key).await {
            Ok(segment) => segment,
            Err(error) if error.is_damage() => {
                tracing::warn!("{error}; its records are in the log, and are shipped from there");
                return Ok(());
            }
            // Deleted since it was listed.
            Err(SegmentError::Store(StoreError::NotFound { .. })) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let origin = Origin { incarnation: name.incarnation, lane: name.lane, ..self.origin };
        let header = SegmentHeader { origin, first: name.first, last: name.last };
        let frames = self.log.clone();
        let ours = tokio::task::spawn_blocking(move || {
            let (partitions, log) = segments::read_range(&*frames, header.first, header.last)?;
            Ok::<_, ShipError>((segment::build(header, partitions, &log)?, log))
        });
        let (ours, log) = ours.await.map_err(|_| crate::lane::LaneGone).map_err(ShipError::from)??;
        let same = *theirs.header() == header
            && theirs.directory().lists_the_same(&ours.directory)
            && theirs.log().await? == log;
        if same {
            return Ok(());
        }
        let directory = self.directory.clone();
        Err(ContinuityError::Forked { directory, key })
    }
}
