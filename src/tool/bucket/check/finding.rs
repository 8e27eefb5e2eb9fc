//! What a check has to say about one thing that is relied on.

use serde::Serialize;

use crate::tool::bucket::right::RequiredRight;

/// How it is about something that is relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// It is there.
    Ok,
    /// It is not there; Chronik works without.
    Warning,
    /// It is not there, and Chronik needs it.
    Missing,
    /// It could not be asked for.
    Unknown,
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct CheckFinding {
    /// What was checked.
    pub check: &'static str,
    pub verdict: CheckVerdict,
    /// What it is for.
    pub purpose: &'static str,
    /// What was seen, if that is more than that all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The right that is missing, by the provider's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl CheckFinding {
    /// Starts as "ok", until a check finds otherwise.
    pub const fn ok(check: &'static str, purpose: &'static str) -> Self {
        Self { check, verdict: CheckVerdict::Ok, purpose, found: None, right: None, remedy: None }
    }

    pub fn missing(self, found: impl Into<String>) -> Self {
        self.seen(CheckVerdict::Missing, found)
    }

    pub fn warning(self, found: impl Into<String>) -> Self {
        self.seen(CheckVerdict::Warning, found)
    }

    pub fn unknown(self, found: impl Into<String>) -> Self {
        self.seen(CheckVerdict::Unknown, found)
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A right is what is missing.
    pub fn lacks(mut self, right: &RequiredRight) -> Self {
        self.right = Some(right.name);
        self.remedy(format!("allow {right}"))
    }

    fn seen(mut self, verdict: CheckVerdict, found: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.found = Some(found.into());
        self
    }
}
