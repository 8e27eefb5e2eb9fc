//! What can go wrong between the tool and a broker.

use std::io;

use chronik_wire::{ApiKey, DecodeError, ErrorCode};

use super::connection::is_passing;

/// Why a broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No server listens there.
    #[error(
        "no Kafka broker answers on {address} ({source}); start one with `chronik`, or name it with --bootstrap HOST:PORT"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// No server listens where a broker says that its clients are to come.
    #[error(
        "the broker on {bootstrap} advertises {address} to its clients, and no Kafka broker answers there ({source}); give \
         it an address that this machine reaches, by CHRONIK_ADVERTISED_ADDR or CHRONIK_ADVERTISED_LISTENERS"
    )]
    AdvertisedUnreachable {
        /// The broker that answered.
        bootstrap: String,
        /// What it, or another broker of its cluster, is to be reached by.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke in between.
    #[error("the connection to the broker on {address} broke during {api}: {source}")]
    Broken {
        /// The broker.
        address: String,
        /// What was being asked.
        api: ApiKey,
        /// The system's reason.
        source: io::Error,
    },
    /// The answer can't be read.
    #[error("the broker on {address} gave an answer to {api} that is not understood: {source}")]
    Garbled {
        /// The broker.
        address: String,
        /// What was being asked.
        api: ApiKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The two sides have no version in common.
    #[error("the broker on {address} does not serve {api} in a version that is known here")]
    Unsupported {
        /// The broker.
        address: String,
        /// What was to be asked.
        api: ApiKey,
    },
    /// No topic has this name.
    #[error("there is no topic {name}; `chronik topic list` names those that are there")]
    UnknownTopic {
        /// What was asked for.
        name: String,
    },
    /// No group has this id.
    #[error("there is no group {name}; `chronik group list` names those that are there")]
    UnknownGroup {
        /// What was asked for.
        name: String,
    },
    /// The broker said no.
    #[error("{what} was refused: {code}{}", message.as_ref().map(|text| format!(", {text}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// A batch that came back can't be decoded.
    #[error(
        "partition {partition} of {topic} holds a batch at offset {offset} that can't be read: {source}. To go on behind it: \
         chronik consume {topic} --partition {partition} --from {next}"
    )]
    Batch {
        topic: String,
        partition: i32,
        /// The batch's first offset that was asked for.
        offset: i64,
        /// Where the next batch begins.
        next: i64,
        /// What is wrong with it.
        source: chronik_format::batch::BatchError,
    },
}

impl KafkaError {
    /// Whether the same may succeed later: the broker is away, or says that it can't just now.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::AdvertisedUnreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { code, .. } => {
                is_passing(*code)
                    || matches!(
                        *code,
                        ErrorCode::REQUEST_TIMED_OUT
                            | ErrorCode::KAFKA_STORAGE_ERROR
                            | ErrorCode::NOT_ENOUGH_REPLICAS
                            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                    )
            }
            _ => false,
        }
    }

    /// What it means that no connection could be opened to an address, if the broker on `bootstrap` told it.
    pub(super) fn of_advertised(self, bootstrap: &str) -> Self {
        match self {
            Self::Unreachable { address, source } | Self::Broken { address, source, .. } if address != bootstrap => {
                Self::AdvertisedUnreachable { bootstrap: bootstrap.to_owned(), address, source }
            }
            error => error,
        }
    }

    /// Whether a fetch asked for an offset that the partition's log does not have.
    pub fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Refused { code: ErrorCode::OFFSET_OUT_OF_RANGE, .. })
    }

    /// Whether a batch of fewer records may be taken.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused { code: ErrorCode::MESSAGE_TOO_LARGE, .. })
    }

    /// Turns a code other than "none" into an error.
    pub fn check(code: ErrorCode, message: Option<String>, what: impl FnOnce() -> String) -> Result<(), Self> {
        if code.is_none() {
            return Ok(());
        }
        Err(Self::Refused { what: what(), code, message })
    }
}
