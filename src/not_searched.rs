//! What a search did not cover, for people: a line for each topic and kind of reason, however many ranges there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::output::shown;

/// Ranges of one topic with one kind of reason.
#[derive(Default)]
struct SkippedRanges {
    partitions: BTreeSet<i64>,
    /// Of the ranges whose end is known.
    offsets: i64,
    is_open: bool,
    /// The first one that was met, and how many others name other objects or offsets.
    reason: String,
    other_reasons: BTreeSet<String>,
}

/// Of `not_searched` in an answer or a problem.
pub fn summary(not_searched: &Value) -> Vec<String> {
    let mut skipped = BTreeMap::<(String, String), SkippedRanges>::new();
    for range in not_searched.as_array().into_iter().flatten() {
        let (topic, reason) = (shown(&range["topic"]), shown(&range["reason"]));
        skipped.entry((topic, kind_of(&reason))).or_default().add(range, reason);
    }
    skipped.iter().map(|((topic, _), ranges)| ranges.told(topic)).collect()
}

impl SkippedRanges {
    fn add(&mut self, range: &Value, reason: String) {
        self.partitions.extend(range["partition"].as_i64());
        match (range["from"].as_i64(), range["to"].as_i64()) {
            (Some(from), Some(to)) => self.offsets = self.offsets.saturating_add(to.saturating_sub(from)),
            _ => self.is_open = true,
        }
        if self.reason.is_empty() {
            self.reason = reason;
        } else if self.reason != reason {
            self.other_reasons.insert(reason);
        }
    }

    fn told(&self, topic: &str) -> String {
        let offsets = match (self.offsets, self.is_open) {
            (0, true) => "an unknown number of offsets".to_owned(),
            (offsets, true) => format!("{offsets} offsets and more"),
            (1, false) => "1 offset".to_owned(),
            (offsets, false) => format!("{offsets} offsets"),
        };
        let partitions = match self.partitions.len() {
            1 => "1 partition".to_owned(),
            partitions => format!("{partitions} partitions"),
        };
        let others = match self.other_reasons.len() {
            0 => String::new(),
            others => format!(" (and {others} more like it)"),
        };
        format!("not searched: {offsets} in {partitions} of {topic}: {}{others}", self.reason)
    }
}

/// The reason without what makes it a single one: names of objects, offsets, sizes.
fn kind_of(reason: &str) -> String {
    let is_single = |word: &&str| word.contains('/') || word.contains(|letter: char| letter.is_ascii_digit());
    reason.split_whitespace().filter(|word| !is_single(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_are_summed_up_by_topic_and_kind_of_reason() {
        let range = |topic: &str, partition: i32, to: Option<i64>, reason: &str| json!({"topic": topic, "partition": partition, "from": 10, "to": to, "reason": reason});
        let ranges = json!([
            range("t", 0, Some(20), "object a/1.seg does not exist"),
            range("t", 1, Some(15), "object a/2.seg does not exist"),
            range("t", 1, Some(25), "object a/2.seg does not exist"),
            range("t", 1, None, "the broker does not answer"),
            range("u", 3, Some(11), "object a/2.seg does not exist"),
        ]);
        assert_eq!(
            summary(&ranges),
            [
                "not searched: 30 offsets in 2 partitions of t: object a/1.seg does not exist (and 1 more like it)",
                "not searched: an unknown number of offsets in 1 partition of t: the broker does not answer",
                "not searched: 1 offset in 1 partition of u: object a/2.seg does not exist",
            ]
        );
        assert!(summary(&Value::Null).is_empty());
    }
}
