//! What `chronik bucket init` has to say about one thing that has to be there.

use serde::Serialize;

/// How a part came to be as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartOutcome {
    /// It was not there, and is now.
    Made,
    /// It was there.
    Kept,
    /// It was there, otherwise than it would have been made, and was left so.
    Different,
    /// It is not there.
    Refused,
}

/// One thing.
#[derive(Clone, Debug, Serialize)]
pub struct SetupPart {
    pub part: String,
    pub outcome: PartOutcome,
    /// What differs, or why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl SetupPart {
    pub fn made(part: impl Into<String>) -> Self {
        Self::new(part, PartOutcome::Made, None)
    }

    pub fn kept(part: impl Into<String>) -> Self {
        Self::new(part, PartOutcome::Kept, None)
    }

    pub fn different(part: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(part, PartOutcome::Different, Some(reason.into()))
    }

    pub fn refused(part: impl Into<String>, reason: impl ToString) -> Self {
        Self::new(part, PartOutcome::Refused, Some(reason.to_string()))
    }

    fn new(part: impl Into<String>, outcome: PartOutcome, reason: Option<String>) -> Self {
        Self { part: part.into(), outcome, reason }
    }
}
