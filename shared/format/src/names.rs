//! The names of objects in the bucket: built by `Display`, read back by `FromStr`, nothing else is accepted.
//!
//! Numbers are fixed-width hex, so that names sort by them; `{ulid}` makes a name unique and carries its age; `{hh}`
//! spreads the keyspace. Keys are relative to the bucket's prefix, which belongs to one cluster.
//!
//! ```text
//! cluster.json                                                        format version, cluster id
//! claims/{incarnation}.json                                           create-only, never deleted
//! probes/{ulid}                                                       shows the store's time, deleted at once
//! lanes/{lane}/segments/{hh}/{incarnation}-{first}-{last}-{ulid}.seg  {hh}: low byte of the first index
//! lanes/{lane}/segment-lists/{hh}/{incarnation}-{ulid}.list           {hh}: low byte of the ulid
//! lanes/{lane}/checkpoints/{incarnation}-{index}-{ulid}.ckpt
//! topics/{topic id}/segments/{hh}/{incarnation}-{ulid}.seg            {hh}: low byte of the ulid
//! topics/{topic id}/archives/{hh}/{incarnation}-{ulid}.ckx            {hh}: low byte of the ulid
//! topics/{topic id}/pages/{hh}/{incarnation}-{ulid}.page              {hh}: low byte of the ulid
//! inbox/{lane}/{incarnation}-{ulid}.json                              results of jobs
//! catalog/{lane}/{incarnation}-{index}-{ulid}.catalog
//! catalog/{lane}/latest                                               the only name that is written again
//! ```

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use crate::ids::{Incarnation, LaneId, LogIndex, Timestamp, TopicId};

/// Says which cluster the bucket belongs to.
pub const CLUSTER: &str = "cluster.json";
/// Where the claims are.
pub const CLAIMS: &str = "claims/";
/// Where probes of the store's clock are, each named by a ulid.
pub const PROBES: &str = "probes/";
/// Where what belongs to lanes is.
pub const LANES: &str = "lanes/";
/// Where what belongs to topics is.
pub const TOPICS: &str = "topics/";

/// Where a lane's newest catalog export is named.
pub fn latest(lane: LaneId) -> String {
    format!("catalog/{lane}/latest")
}

/// A key that is not a name of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is not the name of a {kind}")]
pub struct NameError {
    pub key: String,
    /// `segment`, `checkpoint`, ...
    pub kind: &'static str,
}

/// The name of a level 0 segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentName {
    /// Whose log it holds.
    pub lane: LaneId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    pub first: LogIndex,
    /// Last index of the log in it, inclusive.
    pub last: LogIndex,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl SegmentName {
    /// How many folders segments are spread over.
    pub const FOLDERS: u64 = 256;

    /// Where the lane's segments are.
    pub fn prefix(lane: LaneId) -> String {
        format!("lanes/{lane}/segments/")
    }

    /// Where the lane's segments are that begin at `first`, or a multiple of 256 from it.
    pub fn folder(lane: LaneId, first: LogIndex) -> String {
        format!("lanes/{lane}/segments/{:02x}/", first % Self::FOLDERS)
    }

    /// When it was named, by the clock of who named it, ms since the epoch.
    pub fn named_at(&self) -> Timestamp {
        Timestamp::try_from(self.ulid.timestamp_ms()).unwrap_or(Timestamp::MAX)
    }

    /// Sorts after the incarnation's segments in `folder` that begin before `first`, and before all others of it.
    pub fn before(folder: &str, incarnation: Incarnation, first: LogIndex) -> String {
        format!("{folder}{incarnation}-{first:016x}-")
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, incarnation, first, last, ulid } = self;
        let before = Self::before(&Self::folder(*lane, *first), *incarnation, *first);
        write!(f, "{before}{last:016x}-{ulid}.seg")
    }
}

/// The name of a list of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentListName {
    /// Whose segments it lists.
    pub lane: LaneId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl SegmentListName {
    /// Where the lane's lists are.
    pub fn prefix(lane: LaneId) -> String {
        format!("lanes/{lane}/segment-lists/")
    }
}

impl fmt::Display for SegmentListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, incarnation, ulid } = self;
        let hh = ulid.0 & 0xff;
        write!(f, "lanes/{lane}/segment-lists/{hh:02x}/{incarnation}-{ulid}.list")
    }
}

/// The name of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointName {
    /// Whose state it holds.
    pub lane: LaneId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// The last index applied.
    pub index: LogIndex,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl CheckpointName {
    /// Where the lane's checkpoints are; their names sort by incarnation, then index.
    pub fn prefix(lane: LaneId) -> String {
        format!("lanes/{lane}/checkpoints/")
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, incarnation, index, ulid } = self;
        write!(f, "lanes/{lane}/checkpoints/{incarnation}-{index:016x}-{ulid}.ckpt")
    }
}

/// The name of a segment that compaction wrote: level 1, of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicSegmentName {
    /// Whose records it holds.
    pub topic: TopicId,
    /// As in the job that it was written for.
    pub incarnation: Incarnation,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl TopicSegmentName {
    /// Where the topic's segments are.
    pub fn prefix(topic: TopicId) -> String {
        format!("topics/{topic}/segments/")
    }
}

impl fmt::Display for TopicSegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, incarnation, ulid } = self;
        let hh = ulid.0 & 0xff;
        write!(f, "topics/{topic}/segments/{hh:02x}/{incarnation}-{ulid}.seg")
    }
}

/// The name of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArchiveName {
    /// Whose records it finds.
    pub topic: TopicId,
    /// As in the job that it was built for.
    pub incarnation: Incarnation,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl ArchiveName {
    /// Where the topic's archives are.
    pub fn prefix(topic: TopicId) -> String {
        format!("topics/{topic}/archives/")
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, incarnation, ulid } = self;
        let hh = ulid.0 & 0xff;
        write!(f, "topics/{topic}/archives/{hh:02x}/{incarnation}-{ulid}.ckx")
    }
}

/// The name of a page of a topic's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageName {
    /// Whose history it holds.
    pub topic: TopicId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl PageName {
    /// Where the topic's pages are.
    pub fn prefix(topic: TopicId) -> String {
        format!("topics/{topic}/pages/")
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, incarnation, ulid } = self;
        let hh = ulid.0 & 0xff;
        write!(f, "topics/{topic}/pages/{hh:02x}/{incarnation}-{ulid}.page")
    }
}

/// The name of a job's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResultName {
    /// Whose inbox it is in.
    pub lane: LaneId,
    /// As in the job.
    pub incarnation: Incarnation,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl ResultName {
    /// The lane's inbox.
    pub fn prefix(lane: LaneId) -> String {
        format!("inbox/{lane}/")
    }
}

impl fmt::Display for ResultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, incarnation, ulid } = self;
        write!(f, "inbox/{lane}/{incarnation}-{ulid}.json")
    }
}

/// The name of an object that is written to see the store's clock, and then deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeName {
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROBES}{}", self.ulid)
    }
}

/// The name of a catalog export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExportName {
    /// Whose catalog it is.
    pub lane: LaneId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// The applied index at the export.
    pub index: LogIndex,
    /// Unique, and when it was named.
    pub ulid: Ulid,
}

impl ExportName {
    /// Where the lane's exports and `latest` are; exports sort by incarnation, then index.
    pub fn prefix(lane: LaneId) -> String {
        format!("catalog/{lane}/")
    }
}

impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, incarnation, index, ulid } = self;
        write!(f, "catalog/{lane}/{incarnation}-{index:016x}-{ulid}.catalog")
    }
}

/// The name of a claim on the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimName {
    /// What is claimed.
    pub incarnation: Incarnation,
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLAIMS}{}.json", self.incarnation)
    }
}

/// Reads a name: `$fields` gives the value for the key's parts, which must print as the key again.
macro_rules! parse_name {
    ($name:ident, $kind:literal, |$parts:ident| $fields:expr) => {
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(key: &str) -> Result<Self, NameError> {
                let read = || {
                    let $parts = &mut key.split(['/', '-', '.']);
                    Some($fields)
                };
                let name: Option<Self> = read();
                let error = || NameError { key: key.to_owned(), kind: $kind };
                name.filter(|name| name.to_string() == key).ok_or_else(error)
            }
        }
    };
}

parse_name!(SegmentName, "segment", |parts| Self {
    lane: LaneId(hex(parts.nth(1))?.try_into().ok()?),
    incarnation: Incarnation(hex(parts.nth(2))?.try_into().ok()?),
    first: hex(parts.next())?,
    last: hex(parts.next())?,
    ulid: ulid(parts.next())?,
});
parse_name!(SegmentListName, "segment list", |parts| Self {
    lane: LaneId(hex(parts.nth(1))?.try_into().ok()?),
    incarnation: Incarnation(hex(parts.nth(3))?.try_into().ok()?),
    ulid: ulid(parts.next())?,
});
parse_name!(CheckpointName, "checkpoint", |parts| Self {
    lane: LaneId(hex(parts.nth(1))?.try_into().ok()?),
    incarnation: Incarnation(hex(parts.nth(1))?.try_into().ok()?),
    index: hex(parts.next())?,
    ulid: ulid(parts.next())?,
});
// The topic id has four hyphens of its own.
parse_name!(TopicSegmentName, "segment of a topic", |parts| Self {
    topic: TopicId(parts.skip(1).take(5).collect::<String>().parse().ok()?),
    incarnation: Incarnation(hex(parts.nth(2))?.try_into().ok()?),
    ulid: ulid(parts.next())?,
});
parse_name!(ArchiveName, "archive", |parts| Self {
    topic: TopicId(parts.skip(1).take(5).collect::<String>().parse().ok()?),
    incarnation: Incarnation(hex(parts.nth(2))?.try_into().ok()?),
    ulid: ulid(parts.next())?,
});
parse_name!(PageName, "page", |parts| Self {
    topic: TopicId(parts.skip(1).take(5).collect::<String>().parse().ok()?),
    incarnation: Incarnation(hex(parts.nth(2))?.try_into().ok()?),
    ulid: ulid(parts.next())?,
});
parse_name!(ResultName, "result", |parts| Self {
    lane: LaneId(hex(parts.nth(1))?.try_into().ok()?),
    incarnation: Incarnation(hex(parts.next())?.try_into().ok()?),
    ulid: ulid(parts.next())?,
});
parse_name!(ProbeName, "probe", |parts| Self { ulid: ulid(parts.nth(1))? });
parse_name!(ExportName, "catalog export", |parts| Self {
    lane: LaneId(hex(parts.nth(1))?.try_into().ok()?),
    incarnation: Incarnation(hex(parts.next())?.try_into().ok()?),
    index: hex(parts.next())?,
    ulid: ulid(parts.next())?,
});
parse_name!(ClaimName, "claim", |parts| Self { incarnation: Incarnation(hex(parts.nth(1))?.try_into().ok()?) });

fn hex(part: Option<&str>) -> Option<u64> {
    u64::from_str_radix(part?, 16).ok()
}

fn ulid(part: Option<&str>) -> Option<Ulid> {
    Ulid::from_string(part?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fmt::{Debug, Display};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn reads_back<N: Display + FromStr<Err = NameError> + PartialEq + Debug>(name: N, key: &str) {
        assert_eq!(name.to_string(), key);
        assert_eq!(key.parse::<N>().unwrap(), name);
        for wrong in
            [&key[1..], &key[..key.len() - 1], &format!("{key}x"), &format!("x/{key}"), &key.replace('0', "g"), ""]
        {
            assert!(wrong.parse::<N>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_as_the_format_says() {
        let (lane, incarnation) = (LaneId(0), Incarnation(0x1f));
        let ulid = Ulid::from_parts(1_700_000_000_000, 0xabc);
        let topic = TopicId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
        reads_back(
            SegmentName { lane, incarnation, first: 0x1234, last: 0xffff_ffff_ffff, ulid },
            &format!("lanes/00000000/segments/34/0000001f-0000000000001234-0000ffffffffffff-{ulid}.seg"),
        );
        reads_back(
            SegmentListName { lane, incarnation, ulid },
            &format!("lanes/00000000/segment-lists/bc/0000001f-{ulid}.list"),
        );
        reads_back(
            CheckpointName { lane, incarnation, index: 7, ulid },
            &format!("lanes/00000000/checkpoints/0000001f-0000000000000007-{ulid}.ckpt"),
        );
        reads_back(
            TopicSegmentName { topic, incarnation, ulid },
            &format!("topics/01900000-0000-7000-8000-000000000001/segments/bc/0000001f-{ulid}.seg"),
        );
        reads_back(
            ArchiveName { topic, incarnation, ulid },
            &format!("topics/01900000-0000-7000-8000-000000000001/archives/bc/0000001f-{ulid}.ckx"),
        );
        reads_back(
            PageName { topic, incarnation, ulid },
            &format!("topics/01900000-0000-7000-8000-000000000001/pages/bc/0000001f-{ulid}.page"),
        );
        reads_back(ResultName { lane, incarnation, ulid }, &format!("inbox/00000000/0000001f-{ulid}.json"));
        reads_back(
            ExportName { lane, incarnation, index: 7, ulid },
            &format!("catalog/00000000/0000001f-0000000000000007-{ulid}.catalog"),
        );
        reads_back(ProbeName { ulid }, &format!("probes/{ulid}"));
        reads_back(ClaimName { incarnation }, "claims/0000001f.json");
        assert_eq!(latest(lane), "catalog/00000000/latest");
    }

    proptest! {
        #[test]
        fn any_segment_name_reads_back(lane: u32, incarnation: u32, first: u64, last: u64, ulid: u128) {
            let name = SegmentName { lane: LaneId(lane), incarnation: Incarnation(incarnation), first, last, ulid: Ulid(ulid) };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert!(name.to_string().starts_with(&SegmentName::prefix(LaneId(lane))));
            let folder = SegmentName::folder(LaneId(lane), first);
            prop_assert!(name.to_string().starts_with(&folder));
            prop_assert!(name.to_string() > SegmentName::before(&folder, Incarnation(incarnation), first));
            let after = first.saturating_add(256);
            let later = SegmentName::before(&folder, Incarnation(incarnation), after);
            prop_assert_eq!(name.to_string() < later, after > first);
        }

        #[test]
        fn any_archive_name_reads_back(topic: u128, incarnation: u32, ulid: u128) {
            let name = ArchiveName {
                topic: TopicId(Uuid::from_u128(topic)),
                incarnation: Incarnation(incarnation),
                ulid: Ulid(ulid),
            };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert!(name.to_string().starts_with(&ArchiveName::prefix(name.topic)));
        }

        #[test]
        fn no_text_panics(key in "[a-z0-9/.-]{0,80}") {
            prop_assert!(key.parse::<SegmentName>().is_err());
            prop_assert!(key.parse::<ArchiveName>().is_err());
        }
    }
}
