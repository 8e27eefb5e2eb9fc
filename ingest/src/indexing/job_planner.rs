//! Which runs go into which job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chronik_format::ids::{PartitionId, Timestamp, TopicId};
use chronik_format::job::{IndexSettings, Job, JobInput, JobKind, JobRun, VERSION};
use chronik_format::origin::Origin;
use chronik_format::span::{ByteSpan, OffsetSpan};

use super::IndexLimits;
use crate::state::topic::TopicState;
use crate::state::{LaneState, RunKey};

/// A batch below this size waits longer; it is cheap to scan meanwhile.
const SMALL_BATCH_BYTES: u64 = 1 << 20;
/// How much longer.
const SMALL_BATCH_PATIENCE: u32 = 10;

/// A run without an archive.
#[derive(Clone, Debug)]
pub struct PendingRun {
    pub topic: TopicId,
    /// The topic's name.
    pub topic_name: Arc<str>,
    /// The topic's index epoch.
    pub index_epoch: u32,
    /// How the topic is indexed.
    pub settings: IndexSettings,
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Where the batches are in the segment.
    pub bytes: ByteSpan,
    pub segment: InputSegment,
    /// When it was registered, ms since the epoch; of one that is closed, when its segment was named.
    pub registered_at: Timestamp,
}

/// A segment as jobs name it.
#[derive(Clone, Debug)]
pub struct InputSegment {
    /// The object's name.
    pub key: Arc<str>,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
}

/// What to send now, and when there will be more.
pub struct JobBatches {
    /// Each of one topic, at most the limit's bytes unless one run is larger.
    pub batches: Vec<Vec<PendingRun>>,
    /// Until the next run is due by age.
    pub next_due: Option<Duration>,
}

impl PendingRun {
    /// A run of a topic.
    pub fn of(
        topic: &TopicState,
        partition: PartitionId,
        offsets: OffsetSpan,
        bytes: ByteSpan,
        segment: InputSegment,
        registered_at: Timestamp,
    ) -> Self {
        Self {
            topic: topic.id,
            topic_name: topic.name.clone(),
            index_epoch: topic.index_epoch,
            settings: topic.config.index_settings(),
            partition,
            offsets,
            bytes,
            segment,
            registered_at,
        }
    }

    /// The run as jobs name it.
    pub fn key(&self) -> RunKey {
        (self.topic, self.partition, self.offsets.first)
    }
}

/// All open runs without an archive of topics that are searched.
pub fn pending_runs(state: &LaneState) -> Vec<PendingRun> {
    state.pending.iter().filter_map(|key| pending_run(state, key)).collect()
}

fn pending_run(state: &LaneState, (topic, partition, first): &RunKey) -> Option<PendingRun> {
    let topic = state.topics.get(topic)?;
    let run = topic.partition(*partition)?.run_at(*first)?;
    let segment = state.segments.get(run.segment)?;
    let input = InputSegment { key: segment.key.clone(), size: segment.size, crc: segment.crc };
    Some(PendingRun::of(topic, *partition, run.offsets, run.bytes, input, segment.registered_at))
}

/// Puts runs together by topic. A topic's runs go when they fill a job, when the oldest has waited long enough, or when
/// everything is asked for; by size alone only full jobs go.
pub fn batch(waiting: Vec<PendingRun>, limits: IndexLimits, now: Timestamp, everything: bool) -> JobBatches {
    let mut topics: BTreeMap<TopicId, Vec<PendingRun>> = BTreeMap::new();
    for run in waiting {
        topics.entry(run.topic).or_default().push(run);
    }
    let mut batching = JobBatches { batches: Vec::new(), next_due: None };
    for runs in topics.into_values() {
        let bytes: u64 = runs.iter().map(|run| run.bytes.length).sum();
        let oldest = runs.iter().map(|run| run.registered_at).min().unwrap_or(now);
        let patience = if bytes < SMALL_BATCH_BYTES { limits.age * SMALL_BATCH_PATIENCE } else { limits.age };
        let waited = Duration::from_millis(now.saturating_sub(oldest).max(0) as u64);
        let mut jobs = fill(runs, limits.bytes);
        if !everything && waited < patience {
            jobs.retain(|job| job.iter().map(|run| run.bytes.length).sum::<u64>() >= limits.bytes);
            let due = patience - waited;
            batching.next_due = Some(batching.next_due.map_or(due, |earlier| earlier.min(due)));
        }
        batching.batches.extend(jobs);
    }
    batching
}

/// Cuts runs of a topic, oldest segment first, so that each part reaches the limit with its last run.
pub fn fill(mut runs: Vec<PendingRun>, limit: u64) -> Vec<Vec<PendingRun>> {
    runs.sort_by_key(|run| (run.registered_at, run.partition, run.offsets.first));
    let mut jobs: Vec<Vec<PendingRun>> = Vec::new();
    let mut bytes = limit;
    for run in runs {
        if bytes >= limit {
            jobs.push(Vec::new());
            bytes = 0;
        }
        bytes += run.bytes.length;
        if let Some(job) = jobs.last_mut() {
            job.push(run);
        }
    }
    jobs
}

/// The message for runs of one topic.
pub fn job(origin: &Origin, id: &str, runs: &[PendingRun]) -> Option<Job> {
    let topic = runs.first()?;
    let mut inputs: BTreeMap<&str, JobInput> = BTreeMap::new();
    for run in runs {
        let input = inputs.entry(&run.segment.key).or_insert_with(|| JobInput {
            key: run.segment.key.to_string(),
            size: run.segment.size,
            crc: run.segment.crc,
            runs: Vec::new(),
        });
        input.runs.push(JobRun { partition: run.partition, offsets: run.offsets, bytes: run.bytes });
    }
    Some(Job {
        v: VERSION,
        kind: JobKind::Index,
        cluster: origin.cluster.to_string(),
        incarnation: origin.incarnation,
        lane: origin.lane,
        id: id.into(),
        topic: topic.topic_name.to_string(),
        topic_id: topic.topic,
        index_epoch: topic.index_epoch,
        inputs: inputs.into_values().collect(),
        settings: topic.settings,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chronik_format::ids::{Incarnation, LaneId, Offset};
    use uuid::Uuid;

    use super::*;

    const LIMITS: IndexLimits = IndexLimits { bytes: 4 << 20, age: Duration::from_secs(60) };

    fn run(topic: u128, segment: &str, first: Offset, length: u64, registered_at: Timestamp) -> PendingRun {
        let segment = InputSegment { key: segment.into(), size: 1, crc: 1 };
        PendingRun {
            topic: TopicId(Uuid::from_u128(topic)),
            topic_name: format!("topic-{topic}").into(),
            index_epoch: 0,
            settings: IndexSettings::default(),
            partition: 0,
            offsets: OffsetSpan { first, last: first },
            bytes: ByteSpan { position: 0, length },
            segment,
            registered_at,
        }
    }

    fn sizes(batching: &JobBatches) -> Vec<Vec<u64>> {
        batching.batches.iter().map(|batch| batch.iter().map(|run| run.bytes.length).collect()).collect()
    }

    #[test]
    fn by_size_only_full_jobs_go_and_the_rest_waits_for_its_age() {
        let mib = 1 << 20;
        let runs: Vec<_> = [3, 2, 2].iter().zip(0..).map(|(n, at)| run(1, "s", at, n * mib, 1000 * at)).collect();
        let batching = batch(runs.clone(), LIMITS, 10_000, false);
        assert_eq!(sizes(&batching), [[3 * mib, 2 * mib]]);
        assert_eq!(batching.next_due, Some(Duration::from_secs(50)));
        assert_eq!(sizes(&batch(runs, LIMITS, 60_000, false)), [vec![3 * mib, 2 * mib], vec![2 * mib]]);
    }

    #[test]
    fn small_batches_wait_ten_times_as_long_unless_everything_is_asked_for() {
        let small = vec![run(1, "s", 0, 10, 0), run(2, "s", 0, 10, 0)];
        assert!(batch(small.clone(), LIMITS, 599_999, false).batches.is_empty());
        assert_eq!(sizes(&batch(small.clone(), LIMITS, 600_000, false)), [[10], [10]]);
        assert_eq!(sizes(&batch(small, LIMITS, 0, true)), [[10], [10]]);
    }

    #[test]
    fn a_job_names_each_segment_once() {
        let origin = Origin { cluster: Uuid::from_u128(9), incarnation: Incarnation(1), lane: LaneId(0) };
        let runs = [run(1, "a", 0, 1, 0), run(1, "b", 1, 1, 0), run(1, "a", 2, 1, 0)];
        let job = job(&origin, "id", &runs).unwrap();
        let inputs: Vec<_> = job.inputs.iter().map(|input| (input.key.as_str(), input.runs.len())).collect();
        assert_eq!(inputs, [("a", 2), ("b", 1)]);
    }
}
