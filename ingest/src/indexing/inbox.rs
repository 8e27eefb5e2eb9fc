//! What indexers put into `inbox/`.

use chronik_format::archive::{self, ArchiveError};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::{ArchiveMade, JobResult, VERSION};
use chronik_format::names::{ArchiveName, ResultName};
use chronik_service::failpoint;

use super::IndexingTask;
use crate::clock::now_ms;
use crate::lane::LaneGone;
use crate::state::command::{ArchiveFacts, Command, RegisterResult, ScannedRun};

/// Why a result was not taken in.
#[derive(Debug, thiserror::Error)]
enum ResultError {
    /// Worth another look at the next sweep.
    #[error("{0}")]
    Unavailable(String),
    /// Never worth one.
    #[error("{0}")]
    Invalid(String),
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
            match self.verified_result(&object.key).await {
                Ok((job, result)) => self.take_in(&job, result).await?,
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

    async fn verified_result(&self, key: &str) -> Result<(String, RegisterResult), ResultError> {
        let read = self.indexing.store.read(key, None).await;
        let bytes = read.map_err(|error| ResultError::Unavailable(error.to_string()))?;
        let invalid = |reason: String| ResultError::Invalid(reason);
        let result: JobResult = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if result.v != VERSION {
            return Err(invalid(format!("it has version {}, known is {VERSION}", result.v)));
        }
        if result.cluster != self.indexing.origin.cluster.to_string() || result.lane != self.indexing.origin.lane {
            return Err(invalid(format!("it is for cluster {}, lane {}", result.cluster, result.lane)));
        }
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

    async fn take_in(&mut self, job: &str, result: RegisterResult) -> Result<(), LaneGone> {
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
}

fn named_at(topic: TopicId, key: &str) -> Result<Timestamp, ResultError> {
    let name: ArchiveName =
        key.parse().map_err(|error: chronik_format::names::NameError| ResultError::Invalid(error.to_string()))?;
    if name.topic != topic {
        return Err(ResultError::Invalid(format!("archive {key} is not of topic {topic}")));
    }
    Ok(i64::try_from(name.ulid.timestamp_ms()).unwrap_or(i64::MAX))
}
