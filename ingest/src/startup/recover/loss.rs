use std::fmt;

/// What shows that the bucket once had more than could be recovered.
#[derive(Clone, Debug)]
pub struct LossEvidence {
    shown: String,
    /// Where in the lane's folder the missing objects lay.
    pub folder: &'static str,
}

impl LossEvidence {
    /// Segments are missing.
    pub fn of_segments(shown: String) -> Self {
        Self { shown, folder: "segments/" }
    }

    /// Checkpoints are missing.
    pub fn of_checkpoints(shown: String) -> Self {
        Self { shown, folder: "checkpoints/" }
    }

    /// Segments are missing, or the checkpoint that leads to them.
    pub fn of_both(shown: String) -> Self {
        Self { shown, folder: "" }
    }
}

impl fmt::Display for LossEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
