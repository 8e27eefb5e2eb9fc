//! A segment list: segments that were registered one after the other, as an immutable object. It is written before the
//! command that takes them out of the lane's state and names it. Integers little-endian, checksums CRC-32C.
//!
//! ```text
//! header   38  magic "CHRNKSGL" | version u16 | cluster 16 | incarnation u32 | lane u32 | segments u32
//! segment  64  incarnation u32 | first index u64 | last index u64 | ulid 16 | size u64 | crc of its directory u32
//!              | where its directory starts u64 | when it was registered i64
//! crc       4  of what precedes
//! ```
//!
//! The name of a segment follows from its row and the lane.

mod inspect;

pub use inspect::{ListedDescription, SegmentListDescription, inspect};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chronik_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::ids::{Incarnation, LaneId, LogIndex, Timestamp};
use crate::names::SegmentName;
use crate::origin::Origin;

/// The format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;

const MAGIC: [u8; 8] = *b"CHRNKSGL";
const HEADER_LENGTH: usize = 38;
const ROW_LENGTH: usize = 64;
const CRC_LENGTH: usize = 4;

/// Why a segment list could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentListError {
    /// What was to be listed can't be: a fault of the lane's owner.
    #[error("segment list {object} can't be written: {reason}")]
    Unbuildable {
        /// The object's name.
        object: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The bytes do not start as a segment list does.
    #[error("{object} is not a segment list")]
    NotList {
        /// The object's name.
        object: String,
    },
    /// The object was written by a later program.
    #[error("segment list {object} has format version {version}, this program reads {VERSION}")]
    UnknownVersion {
        /// The object's name.
        object: String,
        /// The version found.
        version: u16,
    },
    /// The bytes are not those that were written.
    #[error("segment list {object} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        object: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The store could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A list as the lane's state names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentListEntry {
    /// The object's name.
    pub object: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of all before it, as it stands at the object's end.
    pub crc: u32,
    /// First log index of its first segment.
    pub first: LogIndex,
    /// Last log index of its last segment.
    pub last: LogIndex,
    /// How many segments.
    pub segments: u32,
    /// Of the segments.
    pub bytes: u64,
    /// When it was written, ms since the epoch.
    pub written_at: Timestamp,
}

/// Registered segments of one lane, contiguous in its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentList {
    pub origin: Origin,
    pub segments: Vec<ListedSegment>,
}

/// One segment in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSegment {
    pub name: SegmentName,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
    /// When it was registered, ms since the epoch.
    pub registered_at: Timestamp,
}

/// A list, ready to be created as an object.
#[derive(Clone, Debug)]
pub struct BuiltSegmentList {
    pub bytes: Bytes,
    /// What names it.
    pub entry: SegmentListEntry,
}

impl SegmentList {
    /// The list that is to be named `object`, as of `now`.
    pub fn build(&self, object: String, now: Timestamp) -> Result<BuiltSegmentList, SegmentListError> {
        if let Err(reason) = self.check() {
            return Err(SegmentListError::Unbuildable { object, reason });
        }
        let mut bytes = BytesMut::with_capacity(HEADER_LENGTH + self.segments.len() * ROW_LENGTH + CRC_LENGTH);
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(VERSION);
        self.origin.encode(&mut bytes);
        bytes.put_u32_le(self.segments.len() as u32);
        self.segments.iter().for_each(|segment| segment.encode(&mut bytes));
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32_le(crc);
        let entry = self.entry(object, bytes.len() as u64, crc, now);
        Ok(BuiltSegmentList { bytes: bytes.freeze(), entry })
    }

    /// Reads the list `object`, which is the whole of `bytes`, as it stands.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<Self, SegmentListError> {
        let damaged = |reason| SegmentListError::Damaged { object: object.to_owned(), reason };
        if !bytes.starts_with(&MAGIC) {
            return Err(SegmentListError::NotList { object: object.to_owned() });
        }
        let split = bytes.split_last_chunk::<CRC_LENGTH>().filter(|(content, _)| content.len() >= HEADER_LENGTH);
        let (content, crc) = split.ok_or_else(|| damaged("it is cut off"))?;
        let (mut header, rows) = content.split_at(HEADER_LENGTH);
        header.advance(MAGIC.len());
        let version = header.get_u16_le();
        if version != VERSION {
            return Err(SegmentListError::UnknownVersion { object: object.to_owned(), version });
        }
        if u32::from_le_bytes(*crc) != crc32c::crc32c(content) {
            return Err(damaged("its checksum does not fit"));
        }
        let (origin, segments) = (Origin::decode(&mut header), header.get_u32_le());
        let (rows, rest) = rows.as_chunks::<ROW_LENGTH>();
        if rows.len() != segments as usize || !rest.is_empty() {
            return Err(damaged("it has more or fewer segments than it says"));
        }
        let segments = rows.iter().map(|row| ListedSegment::decode(origin.lane, row)).collect();
        let list = Self { origin, segments };
        list.check().map_err(damaged)?;
        Ok(list)
    }

    /// Reads the list that `entry` names.
    pub async fn read(store: &dyn Store, entry: &SegmentListEntry) -> Result<Self, SegmentListError> {
        let SegmentListEntry { object, size, crc, written_at, .. } = entry;
        let list = Self::decode(object, &store.read(object, None).await?)?;
        match list.entry(object.clone(), *size, *crc, *written_at) == *entry {
            true => Ok(list),
            false => Err(SegmentListError::Damaged {
                object: object.clone(),
                reason: "it is another list than the state names",
            }),
        }
    }

    fn entry(&self, object: String, size: u64, crc: u32, written_at: Timestamp) -> SegmentListEntry {
        SegmentListEntry {
            object,
            size,
            crc,
            first: self.segments.first().map_or(0, |segment| segment.name.first),
            last: self.segments.last().map_or(0, |segment| segment.name.last),
            segments: self.segments.len() as u32,
            bytes: self.segments.iter().map(|segment| segment.size).fold(0, u64::saturating_add),
            written_at,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let is_possible = |segment: &ListedSegment| segment.name.first <= segment.name.last;
        let follows =
            |before: &ListedSegment, next: &ListedSegment| before.name.last.checked_add(1) == Some(next.name.first);
        match &self.segments[..] {
            [] => Err("it has no segments"),
            all if !all.iter().all(is_possible) || !all.is_sorted_by(follows) => {
                Err("its segments do not follow one another")
            }
            _ => Ok(()),
        }
    }
}

impl ListedSegment {
    fn encode(&self, out: &mut BytesMut) {
        let SegmentName { incarnation, first, last, ulid, .. } = self.name;
        out.put_u32_le(incarnation.0);
        out.put_u64_le(first);
        out.put_u64_le(last);
        out.put_u128_le(ulid.0);
        out.put_u64_le(self.size);
        out.put_u32_le(self.crc);
        out.put_u64_le(self.directory_position);
        out.put_i64_le(self.registered_at);
    }

    fn decode(lane: LaneId, mut row: &[u8]) -> Self {
        let name = SegmentName {
            lane,
            incarnation: Incarnation(row.get_u32_le()),
            first: row.get_u64_le(),
            last: row.get_u64_le(),
            ulid: Ulid(row.get_u128_le()),
        };
        Self {
            name,
            size: row.get_u64_le(),
            crc: row.get_u32_le(),
            directory_position: row.get_u64_le(),
            registered_at: row.get_i64_le(),
        }
    }
}

/// Reads any bytes as a list, and writes what comes out again; for fuzzing.
pub fn fuzz_segment_list(bytes: &[u8]) {
    if let Ok(list) = SegmentList::decode("fuzz", bytes) {
        assert!(list.build("fuzz".into(), 0).is_ok_and(|built| built.bytes == bytes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_store::memory;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const LANE: LaneId = LaneId(3);

    fn segment(incarnation: u32, first: LogIndex, last: LogIndex) -> ListedSegment {
        let ulid = Ulid::from_parts(1_700_000_000_000 + first, u128::from(last));
        ListedSegment {
            name: SegmentName { lane: LANE, incarnation: Incarnation(incarnation), first, last, ulid },
            size: 1000 + first,
            crc: 7,
            directory_position: 900,
            registered_at: 1_700_000_000_000,
        }
    }

    fn list(segments: Vec<ListedSegment>) -> SegmentList {
        let origin = Origin { cluster: Uuid::from_u128(7), incarnation: Incarnation(2), lane: LANE };
        SegmentList { origin, segments }
    }

    fn three() -> SegmentList {
        list(vec![segment(1, 4, 4), segment(1, 5, 9), segment(2, 10, 1 << 40)])
    }

    #[test]
    fn golden_list() {
        let built = three().build("list".into(), 5).unwrap();
        crate::golden::check("segment-list-v0.list", &built.bytes);
        assert_eq!(SegmentList::decode("list", &built.bytes).unwrap(), three());
        let SegmentListEntry { size, first, last, segments, written_at, .. } = built.entry;
        assert_eq!((size, first, last, segments, written_at), (38 + 3 * 64 + 4, 4, 1 << 40, 3, 5));
    }

    #[test]
    fn what_does_not_follow_is_not_listed() {
        for segments in [
            vec![],
            vec![segment(1, 4, 3)],
            vec![segment(1, 4, 5), segment(1, 7, 8)],
            vec![segment(1, 4, 5), segment(1, 5, 8)],
            vec![segment(1, 4, u64::MAX), segment(1, 0, 8)],
        ] {
            let refused = list(segments.clone()).build("list".into(), 5);
            assert!(matches!(refused, Err(SegmentListError::Unbuildable { .. })), "{segments:?}");
        }
    }

    #[tokio::test]
    async fn only_the_list_that_is_named_is_read() {
        let store = memory();
        let BuiltSegmentList { bytes, entry } = three().build("named".into(), 5).unwrap();
        assert!(matches!(SegmentList::read(&*store, &entry).await, Err(SegmentListError::Store(_))));
        store.create("named", vec![bytes]).await.unwrap();
        assert_eq!(SegmentList::read(&*store, &entry).await.unwrap(), three());
        for other in [
            SegmentListEntry { last: 9, ..entry.clone() },
            SegmentListEntry { segments: 2, ..entry.clone() },
            SegmentListEntry { bytes: 2, ..entry.clone() },
            SegmentListEntry { first: 5, ..entry },
        ] {
            let refused = SegmentList::read(&*store, &other).await;
            assert!(matches!(refused, Err(SegmentListError::Damaged { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = three().build("list".into(), 5).unwrap().bytes.to_vec();
        bytes[8] = 1;
        let refused = SegmentList::decode("list", &bytes).unwrap_err();
        assert_eq!(refused.to_string(), "segment list list has format version 1, this program reads 0");
    }

    proptest! {
        #[test]
        fn no_change_passes_unnoticed(at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = three().build("list".into(), 5).unwrap().bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(SegmentList::decode("list", &bytes).is_err());
            prop_assert!(SegmentList::decode("list", &bytes[..at]).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_segment_list(&bytes);
            let mut begun = three().build("list".into(), 5).unwrap().bytes.to_vec();
            begun.truncate(HEADER_LENGTH);
            begun.extend(bytes);
            let crc = crc32c::crc32c(&begun);
            begun.extend(crc.to_le_bytes());
            fuzz_segment_list(&begun);
        }
    }
}
