//! Indexers that are always fast enough: when jobs are due, their results are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::CoveredRun;
use chronik_format::names::{ArchiveName, ResultName};
use chronik_ingest::state::command::{ArchiveFacts, RegisterResult, RegisterSegment, SegmentRun};

use super::MINUTE_MS;
use super::broker::{INCARNATION, LANE, named_at};

/// As `--index-batch-bytes` and `--index-batch-age` are, and what a small batch is.
const JOB_BYTES: u64 = 64 << 20;
const JOB_AGE_MS: i64 = MINUTE_MS;
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_AGE_MS: i64 = 10 * MINUTE_MS;
/// Runs that a message has room for.
const JOB_RUNS: usize = 2000;

/// The runs without an archive, by topic.
#[derive(Default)]
pub struct Indexers {
    waiting: BTreeMap<TopicId, Waiting>,
}

struct Waiting {
    since: Timestamp,
    bytes: u64,
    runs: Vec<(Arc<str>, SegmentRun)>,
}

impl Indexers {
    /// The runs of a segment wait from now on.
    pub fn see(&mut self, segment: &RegisterSegment, now: Timestamp) {
        let key: Arc<str> = segment.key.as_str().into();
        for run in &segment.runs {
            let none = Waiting { since: now, bytes: 0, runs: Vec::new() };
            let waiting = self.waiting.entry(run.topic).or_insert(none);
            waiting.bytes += run.bytes.length;
            waiting.runs.push((key.clone(), *run));
        }
    }

    /// What comes of the jobs that are due.
    pub fn results(&mut self, now: Timestamp) -> Vec<RegisterResult> {
        let due: Vec<TopicId> =
            self.waiting.iter().filter(|(_, waiting)| waiting.is_due(now)).map(|(topic, _)| *topic).collect();
        let due = due.into_iter().filter_map(|topic| Some((topic, self.waiting.remove(&topic)?)));
        due.flat_map(|(topic, waiting)| waiting.jobs().map(|runs| result(topic, &runs, now)).collect::<Vec<_>>())
            .collect()
    }
}

impl Waiting {
    fn is_due(&self, now: Timestamp) -> bool {
        let patience = if self.bytes < SMALL_BYTES { SMALL_AGE_MS } else { JOB_AGE_MS };
        self.bytes >= JOB_BYTES || now >= self.since + patience
    }

    fn jobs(self) -> impl Iterator<Item = Vec<(Arc<str>, SegmentRun)>> {
        let mut runs = self.runs.into_iter().peekable();
        std::iter::from_fn(move || {
            let (mut job, mut bytes) = (Vec::new(), 0);
            while let Some((key, run)) = runs.next_if(|_| bytes < JOB_BYTES && job.len() < JOB_RUNS) {
                bytes += run.bytes.length;
                job.push((key, run));
            }
            (!job.is_empty()).then_some(job)
        })
    }
}

fn result(topic: TopicId, runs: &[(Arc<str>, SegmentRun)], now: Timestamp) -> RegisterResult {
    let covered = |(segment, run): &(Arc<str>, SegmentRun)| CoveredRun {
        segment: segment.to_string(),
        partition: run.partition,
        first: run.offsets.first,
        last: run.offsets.last,
        min_timestamp: Some(run.times.earliest),
        max_timestamp: Some(run.times.latest),
    };
    let bytes: u64 = runs.iter().map(|(_, run)| run.bytes.length).sum();
    let archive = ArchiveFacts {
        key: ArchiveName { topic, incarnation: INCARNATION, ulid: named_at(now) }.to_string(),
        size: bytes / 3,
        crc: u32::MAX / 3,
        records: bytes / 100,
        named_at: now,
        runs: runs.iter().map(covered).collect(),
    };
    RegisterResult {
        result: ResultName { lane: LANE, incarnation: INCARNATION, ulid: named_at(now) }.to_string(),
        topic,
        index_epoch: 0,
        at: now,
        archives: vec![archive],
        unreadable: Vec::new(),
    }
}
