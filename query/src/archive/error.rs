use std::io;

use chronik_format::archive::ArchiveError;
use tantivy::TantivyError;
use tantivy::directory::error::OpenReadError;

/// Why an archive gives no candidates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The bytes are not those that were written. Its runs can be scanned instead.
    #[error("archive {archive} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        archive: String,
        /// What does not fit.
        reason: String,
    },
    /// A program with another format or another text analysis wrote it. Its runs can be scanned instead.
    #[error("archive {archive} can't be searched by this program: {reason}")]
    Unsupported {
        /// The object's name.
        archive: String,
        /// What is unknown.
        reason: String,
    },
    /// The search itself failed. The archive's runs can be scanned instead.
    #[error("the search of archive {archive} failed: {reason}")]
    Failed {
        /// The object's name.
        archive: String,
        /// What went wrong.
        reason: String,
    },
    /// The object is gone: a newer catalog will not name it.
    #[error("archive {archive} does not exist")]
    NotFound {
        /// The object's name.
        archive: String,
    },
    /// The store could not be reached, or failed; trying again may help.
    #[error("archive {archive} could not be read: {message}")]
    Store {
        /// The object's name.
        archive: String,
        /// The store's own words.
        message: String,
    },
}

impl LeafError {
    pub(super) fn failed(archive: &str, reason: impl ToString) -> Self {
        Self::Failed { archive: archive.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn of_archive(archive: &str, error: ArchiveError) -> Self {
        let archive = archive.to_owned();
        match error {
            ArchiveError::Damaged { reason, .. } => Self::Damaged { archive, reason },
            ArchiveError::NotFound { .. } => Self::NotFound { archive },
            ArchiveError::Store { message } => Self::Store { archive, message },
            ArchiveError::Unsupported { .. } | ArchiveError::Unwritable { .. } => {
                Self::Unsupported { archive, reason: error.to_string() }
            }
        }
    }

    /// Tantivy hands on what reading its files gave.
    pub(super) fn of_tantivy(archive: &str, error: TantivyError) -> Self {
        match &error {
            TantivyError::IoError(io) | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. }) => {
                Self::of_io(archive, io)
            }
            TantivyError::IncompatibleIndex(_) => {
                Self::Unsupported { archive: archive.to_owned(), reason: error.to_string() }
            }
            _ => Self::failed(archive, error),
        }
    }

    pub(super) fn of_io(archive: &str, error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ArchiveError>()) {
            Some(inner) => Self::of_archive(archive, inner.clone()),
            None => Self::failed(archive, error),
        }
    }
}
