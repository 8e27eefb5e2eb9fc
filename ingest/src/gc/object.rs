//! The objects that may ever be deleted, by their names.

use chronik_format::ids::{Incarnation, Timestamp};
use chronik_format::names::{
    ArchiveName, CheckpointName, ExportName, PageName, ProbeName, ResultName, SegmentListName, SegmentName,
    TopicSegmentName,
};
use ulid::Ulid;

/// What a name says about its object. Claims, `cluster.json` and `latest` are none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedObject {
    /// A level 0 segment.
    Segment(SegmentName),
    /// A list of segments.
    SegmentList(SegmentListName),
    /// A segment that compaction wrote.
    TopicSegment(TopicSegmentName),
    /// A checkpoint.
    Checkpoint(CheckpointName),
    /// An archive.
    Archive(ArchiveName),
    /// A page of a topic's history.
    Page(PageName),
    /// A job's result.
    Result(ResultName),
    /// A catalog export.
    Export(ExportName),
    /// A probe.
    Probe(ProbeName),
}

impl NamedObject {
    /// What [`kind`](Self::kind) may say.
    pub const KINDS: [&str; 8] =
        ["segment", "segment_list", "checkpoint", "archive", "page", "result", "catalog", "probe"];

    /// The object of a name; `None` for a name that this program does not delete.
    pub fn named(key: &str) -> Option<Self> {
        let (top, _) = key.split_once('/')?;
        match top {
            "lanes" if key.ends_with(".seg") => key.parse().ok().map(Self::Segment),
            "lanes" if key.ends_with(".list") => key.parse().ok().map(Self::SegmentList),
            "lanes" => key.parse().ok().map(Self::Checkpoint),
            "topics" if key.ends_with(".seg") => key.parse().ok().map(Self::TopicSegment),
            "topics" if key.ends_with(".page") => key.parse().ok().map(Self::Page),
            "topics" => key.parse().ok().map(Self::Archive),
            "inbox" => key.parse().ok().map(Self::Result),
            "catalog" => key.parse().ok().map(Self::Export),
            "probes" => key.parse().ok().map(Self::Probe),
            _ => None,
        }
    }

    /// What it is, as metrics say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Segment(_) | Self::TopicSegment(_) => "segment",
            Self::SegmentList(_) => "segment_list",
            Self::Checkpoint(_) => "checkpoint",
            Self::Archive(_) => "archive",
            Self::Page(_) => "page",
            Self::Result(_) => "result",
            Self::Export(_) => "catalog",
            Self::Probe(_) => "probe",
        }
    }

    /// Of the owner that wrote it, or for whom it was made; a probe may be anybody's.
    pub fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Segment(name) => Some(name.incarnation),
            Self::SegmentList(name) => Some(name.incarnation),
            Self::TopicSegment(name) => Some(name.incarnation),
            Self::Checkpoint(name) => Some(name.incarnation),
            Self::Archive(name) => Some(name.incarnation),
            Self::Page(name) => Some(name.incarnation),
            Self::Result(name) => Some(name.incarnation),
            Self::Export(name) => Some(name.incarnation),
            Self::Probe(_) => None,
        }
    }

    /// When it was named, by the clock of who named it, ms since the epoch.
    pub fn named_at(&self) -> Timestamp {
        let ulid: Ulid = match self {
            Self::Segment(name) => name.ulid,
            Self::SegmentList(name) => name.ulid,
            Self::TopicSegment(name) => name.ulid,
            Self::Checkpoint(name) => name.ulid,
            Self::Archive(name) => name.ulid,
            Self::Page(name) => name.ulid,
            Self::Result(name) => name.ulid,
            Self::Export(name) => name.ulid,
            Self::Probe(name) => name.ulid,
        };
        Timestamp::try_from(ulid.timestamp_ms()).unwrap_or(Timestamp::MAX)
    }
}
