//! Merging: the archives of a page become few.

use serde::{Deserialize, Serialize};

use super::{JobKind, JobPage};
use crate::ids::{Incarnation, LaneId, Offset, PartitionId, TopicId};

/// A queue message, within the same bounds as [`Job`](super::Job).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeJob {
    /// [`VERSION`](super::VERSION).
    pub v: u32,
    /// [`JobKind::Merge`].
    pub kind: JobKind,
    /// The cluster's id, as in `cluster.json`.
    pub cluster: String,
    /// Of the lane's owner when it sent the job.
    pub incarnation: Incarnation,
    /// Whose inbox the result belongs into.
    pub lane: LaneId,
    /// A ulid; results repeat it.
    pub id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// A leaf of the topic's history: its archives that were not merged since its runs were compacted are merged.
    pub page: JobPage,
    /// A partition that is in the page.
    pub partition: PartitionId,
    /// The partition's first offset there, by which the page is found again.
    pub first: Offset,
}

/// What an indexer made of a [`MergeJob`]: an object as that of a [`JobResult`](super::JobResult).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeResult {
    /// [`VERSION`](super::VERSION).
    pub v: u32,
    /// [`JobKind::Merge`].
    pub kind: JobKind,
    /// As in the job.
    pub cluster: String,
    /// As in the job.
    pub incarnation: Incarnation,
    /// As in the job.
    pub lane: LaneId,
    /// The job's id.
    pub job: String,
    /// As in the job.
    pub topic_id: TopicId,
    /// The page's object name.
    pub page: String,
    /// As in the job.
    pub partition: PartitionId,
    /// As in the job.
    pub first: Offset,
    /// The archives that were created.
    pub archives: Vec<MergedArchive>,
    /// Object names of archives that stay: there are no others that they could be merged with.
    pub alone: Vec<String>,
    /// Why there are none of either.
    pub failure: Option<String>,
}

/// One archive in the place of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedArchive {
    /// The archive's object name.
    pub key: String,
    /// Bytes of the archive.
    pub size: u64,
    /// CRC-32C of the archive's table of contents.
    pub crc: u32,
    /// Records indexed.
    pub records: u64,
    /// Object names of the others, at least two.
    pub of: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;
    use crate::job::VERSION;

    fn job() -> MergeJob {
        MergeJob {
            v: VERSION,
            kind: JobKind::Merge,
            cluster: "01900000-0000-7000-8000-000000000000".into(),
            incarnation: Incarnation(1),
            lane: LaneId(0),
            id: "01HF7YAT00000000000000000A".into(),
            topic: "logs".into(),
            topic_id: TopicId(Uuid::from_u128(7)),
            page: JobPage { key: "page".into(), size: 700, crc: 5 },
            partition: 3,
            first: 1000,
        }
    }

    fn result() -> MergeResult {
        let of = vec!["one".into(), "two".into()];
        let MergeJob { cluster, incarnation, lane, id, topic_id, page, partition, first, .. } = job();
        MergeResult {
            v: VERSION,
            kind: JobKind::Merge,
            cluster,
            incarnation,
            lane,
            job: id,
            topic_id,
            page: page.key,
            partition,
            first,
            archives: vec![MergedArchive { key: "merged".into(), size: 900, crc: 6, records: 20, of }],
            alone: vec!["three".into()],
            failure: None,
        }
    }

    /// Bytes at rest of version 0. The files change only together with the format, in one commit that says why.
    #[test]
    fn messages_are_those_of_the_golden_files() {
        let (job, result) = (job(), result());
        let written = serde_json::to_vec_pretty(&job).unwrap();
        crate::golden::check("merge-job-v0.json", &written);
        assert_eq!(serde_json::from_slice::<MergeJob>(&written).unwrap(), job);
        let written = serde_json::to_vec_pretty(&result).unwrap();
        crate::golden::check("merge-result-v0.json", &written);
        assert_eq!(serde_json::from_slice::<MergeResult>(&written).unwrap(), result);
    }
}
