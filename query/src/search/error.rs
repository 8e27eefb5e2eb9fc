use chronik_format::catalog::CatalogError;
use chronik_format::ids::{Offset, PartitionId};
use chronik_format::search::ParseError;
use chronik_peers::cold::ColdError;
use chronik_peers::tail::TailError;
use chronik_service::problem::HttpProblem;

use super::MissingRange;
use crate::answer_room::NoRoom;
use crate::cpu::CpuError;

/// Why a search or a read of records is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error("{name}: {reason}")]
    Parameter { name: String, reason: String },
    #[error("the query is not understood {0}")]
    Query(#[from] ParseError),
    #[error("the cursor {reason}")]
    Cursor { reason: &'static str },
    #[error("there is no topic {topic}")]
    UnknownTopic { topic: String },
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition { topic: String, partition: PartitionId },
    #[error("topic {topic} is not searched: search.enabled is false")]
    SearchDisabled { topic: String },
    #[error("offset {offset} is not there: the partition has offsets from {from} to {to}, exclusive")]
    OutOfRange { offset: Offset, from: Offset, to: Offset },
    #[error("too many searches are waiting; try again later")]
    Busy,
    #[error(
        "an answer of {} bytes finds no room beside those that clients have not taken yet (they have {}, and one \
         that needs more is let in at a time); try again later",
        .0.bytes,
        .0.bytes_max
    )]
    NoRoom(NoRoom),
    #[error("the answer can't be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{} of the ranges to be searched could not be; partial=true answers from the rest", missing.len())]
    Incomplete { missing: Vec<MissingRange> },
    #[error("the catalog can't be read: {0}")]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Cold(#[from] ColdError),
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error("the batch with the offsets {first} to {last} can't be read: {source}. What follows it begins at offset {}", last.saturating_add(1))]
    Batch {
        first: chronik_format::ids::Offset,
        last: chronik_format::ids::Offset,
        source: chronik_format::batch::BatchError,
    },
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

impl From<NoRoom> for SearchError {
    fn from(none: NoRoom) -> Self {
        Self::NoRoom(none)
    }
}

impl SearchError {
    pub(crate) fn parameter(name: &str, reason: impl Into<String>) -> Self {
        Self::Parameter { name: name.into(), reason: reason.into() }
    }
}

impl From<SearchError> for HttpProblem {
    /// The one place where errors become HTTP.
    fn from(error: SearchError) -> Self {
        let problem = |status, code| HttpProblem::new(status, code, error.to_string());
        match &error {
            SearchError::Parameter { name, .. } => problem(400, "invalid_parameter").with("parameter", name.as_str()),
            SearchError::Query(ParseError { position, .. }) => {
                problem(400, "invalid_query").with("position", *position)
            }
            SearchError::Cursor { .. } => problem(400, "invalid_cursor"),
            SearchError::UnknownTopic { .. } => problem(404, "unknown_topic"),
            SearchError::UnknownPartition { .. } => problem(404, "unknown_partition"),
            SearchError::SearchDisabled { .. } => problem(409, "search_disabled"),
            SearchError::OutOfRange { from, to, .. } => {
                problem(404, "offset_out_of_range").with("from", *from).with("to", *to)
            }
            SearchError::Busy => problem(503, "busy"),
            SearchError::NoRoom(room) => problem(503, "busy").with("limit_bytes", room.bytes_max),
            SearchError::Incomplete { missing } => {
                let list: Vec<_> = missing.iter().map(MissingRange::json).collect();
                problem(503, "incomplete").with("not_searched", list)
            }
            SearchError::Batch { .. }
            | SearchError::Cold(ColdError::Damaged { .. })
            | SearchError::Catalog(CatalogError::Damaged { .. }) => problem(500, "damaged_records"),
            SearchError::Cold(ColdError::UnknownVersion { .. })
            | SearchError::Catalog(CatalogError::UnknownVersion { .. }) => problem(500, "unknown_version"),
            SearchError::Catalog(_) | SearchError::Cold(_) | SearchError::Tail(_) => {
                problem(503, "storage_unavailable")
            }
            SearchError::Cpu(_) | SearchError::Json(_) => problem(500, "internal"),
        }
    }
}
