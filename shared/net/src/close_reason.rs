//! How a connection ends.

use std::io;

use chronik_wire::DecodeError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("closed by the client")]
    Client,
    #[error("the server stops")]
    Shutdown,
    #[error("idle")]
    Idle,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame came too slowly, or stopped")]
    Stalled,
    #[error("a frame of {length} bytes where 1 to {max} are allowed")]
    FrameLength { length: i32, max: usize },
    #[error("no request header: {0}")]
    Header(#[from] DecodeError),
    #[error("{0}")]
    Refused(String),
    #[error("the client takes nothing of its answers")]
    Unread,
    #[error("answers took too long")]
    Drain,
}

impl CloseReason {
    /// Whether the client sent what it should not have.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Stalled | Self::Unread | Self::FrameLength { .. } | Self::Header(_) | Self::Refused(_))
    }
}
