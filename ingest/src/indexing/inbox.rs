//! What indexers put into `inbox/`.

use chronik_format::archive::{self, ArchiveError};
use chronik_format::catalog::CatalogError;
use chronik_format::ids::{LaneId, Timestamp, TopicId};
use chronik_format::job::{ArchiveMade, CompactResult, JobResult, MergeResult, VERSION};
use chronik_format::names::{ArchiveName, ResultName};
use chronik_service::failpoint;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::IndexingTask;
use super::page_filing::FilingError;
use crate::clock::now_ms;
use crate::lane::{LaneError, LaneGone};
use crate::state::command::{ArchiveFacts, Command, RegisterResult, ScannedRun};

/// Why a result was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Worth another look at the next sweep.
    #[error("{0}")]
    Unavailable(String),
    /// Never worth one.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Gone(#[from] LaneGone),
}

impl From<FilingError> for ResultError {
    fn from(error: FilingError) -> Self {
        match error {
            FilingError::Lane(LaneError::Gone(gone)) => Self::Gone(gone),
            FilingError::Catalog(CatalogError::Damaged { .. } | CatalogError::UnknownVersion { .. }) => {
                Self::Invalid(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl IndexingTask {
    /// Registers every result that is not known yet. One that can't be used is left where it is, for an operator to
    /// look at.
    pub(super) async fn sweep_inbox(&mut self) -> Result<(), LaneGone> {
        let objects = match self.indexing.store.list(&ResultName::prefix(self.indexing.origin.lane)).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::warn!("the inbox can't be listed, trying again: {error}");
                return Ok(());
            }
        };
        let known = self.indexing.lane.snapshot().await?;
        for object in objects {
            if known.results.contains_key(&object.key) || self.ignored.contains(&object.key) {
                continue;
            }
            match self.take_in(&object.key).await {
                Ok(()) => {}
                Err(ResultError::Gone(gone)) => return Err(gone),
                Err(ResultError::Unavailable(reason)) => {
                    tracing::warn!("result {} can't be read, trying again: {reason}", object.key);
                }
                Err(ResultError::Invalid(reason)) => {
                    tracing::error!("result {} is ignored: {reason}", object.key);
                    self.ignored.insert(object.key);
                }
            }
        }
        self.count();
        Ok(())
    }

    async fn take_in(&mut self, key: &str) -> Result<(), ResultError> {
        match self.result(key).await? {
            AnyResult::Index(result) => self.take_in_archives(key, result).await,
            AnyResult::Compact(result) => {
                self.compaction.take_in(&result, now_ms()).await??;
                self.note(key, result.topic_id).await
            }
            AnyResult::Merge(result) => {
                self.merging.take_in(&result, now_ms()).await??;
                self.note(key, result.topic_id).await
            }
        }
    }

    async fn result(&self, key: &str) -> Result<AnyResult, ResultError> {
        let read = self.indexing.store.read(key, None).await;
        let bytes = read.map_err(|error| ResultError::Unavailable(error.to_string()))?;
        let envelope: Envelope = parsed(&bytes)?;
        if envelope.v != VERSION {
            return Err(ResultError::Invalid(format!("it has version {}, known is {VERSION}", envelope.v)));
        }
        let Envelope { kind, cluster, lane, .. } = envelope;
        if cluster != self.indexing.origin.cluster.to_string() || lane != self.indexing.origin.lane {
            return Err(ResultError::Invalid(format!("it is for cluster {cluster}, lane {lane}")));
        }
        match kind.as_str() {
            "index" => parsed(&bytes).map(AnyResult::Index),
            "compact" => parsed(&bytes).map(AnyResult::Compact),
            "merge" => parsed(&bytes).map(AnyResult::Merge),
            other => Err(ResultError::Invalid(format!("results of kind {other:?} are unknown"))),
        }
    }

    async fn verified_result(&self, key: &str, result: JobResult) -> Result<(String, RegisterResult), ResultError> {
        let mut archives = Vec::new();
        for made in result.archives {
            archives.push(self.verified_archive(result.topic_id, made).await?);
        }
        let unreadable = result
            .unreadable
            .into_iter()
            .map(|run| ScannedRun {
                segment: run.segment,
                partition: run.partition,
                first: run.first,
                reason: run.reason,
            })
            .collect();
        let registration = RegisterResult {
            result: key.to_owned(),
            topic: result.topic_id,
            index_epoch: result.index_epoch,
            at: now_ms(),
            archives,
            unreadable,
        };
        Ok((result.job, registration))
    }

    /// An archive counts once its object is there in full, by size and table of contents, and only for the topic that
    /// its name says: a result that names another topic's would tombstone it.
    async fn verified_archive(&self, topic: TopicId, made: ArchiveMade) -> Result<ArchiveFacts, ResultError> {
        let named_at = named_at(topic, &made.key)?;
        let opened = archive::open(&*self.indexing.store, &made.key, made.size, Some(made.crc), 0).await;
        opened.map_err(|error| match error {
            ArchiveError::Store { .. } => ResultError::Unavailable(error.to_string()),
            _ => ResultError::Invalid(error.to_string()),
        })?;
        Ok(ArchiveFacts {
            key: made.key,
            size: made.size,
            crc: made.crc,
            records: made.records,
            named_at,
            runs: made.runs,
        })
    }

    /// Puts what a result says of closed runs into their pages, and has the rest registered.
    async fn take_in_archives(&mut self, key: &str, result: JobResult) -> Result<(), ResultError> {
        let (job, mut result) = self.verified_result(key, result).await?;
        self.filing.file(&mut result).await?;
        Ok(self.register(&job, result).await?)
    }

    async fn register(&mut self, job: &str, result: RegisterResult) -> Result<(), LaneGone> {
        self.indexing.metrics.unreadable_runs.inc_by(result.unreadable.len() as u64);
        for run in &result.unreadable {
            tracing::error!(
                "partition {} of topic {} from offset {} on is scanned, not indexed: {}",
                run.partition,
                result.topic,
                run.first,
                run.reason
            );
        }
        self.propose(Command::RegisterResult(result)).await?;
        failpoint!("result-registered");
        self.in_flight.answered(job);
        Ok(())
    }

    /// What compaction or merging is done with is noted like other results, so that its object may go.
    async fn note(&mut self, key: &str, topic: TopicId) -> Result<(), ResultError> {
        self.propose(Command::RegisterResult(RegisterResult {
            result: key.to_owned(),
            topic,
            index_epoch: 0,
            at: now_ms(),
            archives: Vec::new(),
            unreadable: Vec::new(),
        }))
        .await?;
        failpoint!("result-registered");
        self.compact_at = Instant::now();
        Ok(())
    }
}

/// What every version and kind of result has.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
    kind: String,
    cluster: String,
    lane: LaneId,
}

/// A result of any kind.
enum AnyResult {
    Index(JobResult),
    Compact(CompactResult),
    Merge(MergeResult),
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ResultError> {
    serde_json::from_slice(bytes).map_err(|error| ResultError::Invalid(error.to_string()))
}

fn named_at(topic: TopicId, key: &str) -> Result<Timestamp, ResultError> {
    let name: ArchiveName =
        key.parse().map_err(|error: chronik_format::names::NameError| ResultError::Invalid(error.to_string()))?;
    if name.topic != topic {
        return Err(ResultError::Invalid(format!("archive {key} is not of topic {topic}")));
    }
    Ok(i64::try_from(name.ulid.timestamp_ms()).unwrap_or(i64::MAX))
}
