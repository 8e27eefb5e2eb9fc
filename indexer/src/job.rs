//! The queue's message, read with suspicion.

use chronik_format::job::{
    CompactJob, CompactResult, Job, JobKind, JobResult, MergeJob, MergeResult, MergedArchive, SegmentMade, VERSION,
};
use chronik_store::queue::MESSAGE_BYTES_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::decode::unreadable;

/// What every version and kind of job has.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
    kind: String,
}

/// A job of any kind.
pub(crate) enum AnyJob {
    Index(Job),
    Compact(CompactJob),
    Merge(MergeJob),
}

impl AnyJob {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Index(job) => &job.id,
            Self::Compact(job) => &job.id,
            Self::Merge(job) => &job.id,
        }
    }
}

/// The job, or why no indexer can ever do it.
pub(crate) fn parse(body: &str) -> Result<AnyJob, String> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(format!("{} bytes are more than a job may have, {MESSAGE_BYTES_MAX}", body.len()));
    }
    let envelope: Envelope = serde_json::from_str(body).map_err(|error| format!("it is no job: {error}"))?;
    if envelope.v != VERSION {
        return Err(format!("job version {} is unknown, this program knows {VERSION}", envelope.v));
    }
    match envelope.kind.as_str() {
        "index" => job_of_kind(&envelope, body).map(AnyJob::Index),
        "compact" => job_of_kind(&envelope, body).map(AnyJob::Compact),
        "merge" => job_of_kind(&envelope, body).map(AnyJob::Merge),
        other => Err(format!("jobs of kind {other:?} are unknown")),
    }
}

fn job_of_kind<J: DeserializeOwned>(envelope: &Envelope, body: &str) -> Result<J, String> {
    serde_json::from_str(body).map_err(|error| format!("a job of kind {:?}: {error}", envelope.kind))
}

/// The result of a compaction: the segments, or why there are none.
pub(crate) fn compact_result(job: &CompactJob, made: Result<Vec<SegmentMade>, String>) -> CompactResult {
    let (segments, failure) = match made {
        Ok(segments) => (segments, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    CompactResult {
        v: VERSION,
        kind: JobKind::Compact,
        cluster: job.cluster.clone(),
        incarnation: job.incarnation,
        lane: job.lane,
        job: job.id.clone(),
        topic_id: job.topic_id,
        pages: job.pages.iter().map(|page| page.key.clone()).collect(),
        place: job.place,
        segments,
        failure,
    }
}

/// What became of the archives of a page.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub archives: Vec<MergedArchive>,
    /// Names of those that stay.
    pub alone: Vec<String>,
}

/// The result of merging: the archives, or why there are none.
pub(crate) fn merge_result(job: &MergeJob, merged: Result<Merged, String>) -> MergeResult {
    let (Merged { archives, alone }, failure) = match merged {
        Ok(merged) => (merged, None),
        Err(reason) => (Merged::default(), Some(reason)),
    };
    MergeResult {
        v: VERSION,
        kind: JobKind::Merge,
        cluster: job.cluster.clone(),
        incarnation: job.incarnation,
        lane: job.lane,
        job: job.id.clone(),
        topic_id: job.topic_id,
        page: job.page.key.clone(),
        partition: job.partition,
        first: job.first,
        archives,
        alone,
        failure,
    }
}

/// A result of nothing yet.
pub(crate) fn result(job: &Job) -> JobResult {
    JobResult {
        v: VERSION,
        kind: JobKind::Index,
        cluster: job.cluster.clone(),
        incarnation: job.incarnation,
        lane: job.lane,
        job: job.id.clone(),
        topic_id: job.topic_id,
        index_epoch: job.index_epoch,
        archives: Vec::new(),
        unreadable: Vec::new(),
    }
}

/// How many runs the job is about.
pub(crate) fn run_count(job: &Job) -> usize {
    job.inputs.iter().map(|input| input.runs.len()).sum()
}

/// The result of a job that is given up.
pub(crate) fn failed(job: &Job, reason: &str) -> JobResult {
    let runs = job.inputs.iter().flat_map(|input| input.runs.iter().map(|run| (&input.key, *run)));
    JobResult { unreadable: runs.map(|(key, run)| unreadable(key, run, reason)).collect(), ..result(job) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_owner_sends_is_refused_unread() {
        let told = parse(&"x".repeat(MESSAGE_BYTES_MAX + 1)).err();
        assert!(told.is_some_and(|told| told.contains("204801") && told.contains("204800")));
    }
}
