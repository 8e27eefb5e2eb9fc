use chronik_format::catalog::CatalogError;
use chronik_format::names::NameError;
use chronik_format::segment_list::SegmentListError;
use chronik_store::StoreError;

use crate::lane::LaneGone;
use crate::ownership::heartbeat::HeartbeatError;

/// Why a page, a list of segments or the catalog was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `latest` could not be written.
    #[error(transparent)]
    Heartbeat(#[from] HeartbeatError),
    /// The catalog can't be built or read back.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The segments can't be listed.
    #[error(transparent)]
    SegmentList(#[from] SegmentListError),
    /// A segment was registered under a name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The lane has ended.
    #[error(transparent)]
    Gone(#[from] LaneGone),
}
