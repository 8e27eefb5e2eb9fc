//! Where a queue puts its dead letters.

use serde_json::Value;

/// The redrive policy of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// The name of the dead-letter queue; it lies in the same account and region.
    pub dead_letters: String,
    /// A message that was received more often goes there by itself.
    pub receives_max: u32,
}

impl RedrivePolicy {
    /// Reads the attribute: `{"deadLetterTargetArn":"arn:aws:sqs:REGION:ACCOUNT:NAME","maxReceiveCount":N}`; servers
    /// write the number also as text.
    pub fn parse(text: &str) -> Option<Self> {
        let policy: Value = serde_json::from_str(text).ok()?;
        let name = policy.get("deadLetterTargetArn")?.as_str()?.rsplit(':').next()?;
        let count = policy.get("maxReceiveCount")?;
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
        (!name.is_empty())
            .then(|| Self { dead_letters: name.to_owned(), receives_max: u32::try_from(count).unwrap_or(u32::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_as_numbers_and_as_text() {
        for count in ["8", "\"8\""] {
            let text = format!(r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dead","maxReceiveCount":{count}}}"#);
            let policy = RedrivePolicy { dead_letters: "dead".into(), receives_max: 8 };
            assert_eq!(RedrivePolicy::parse(&text), Some(policy));
        }
        for text in ["", "{}", r#"{"deadLetterTargetArn":"","maxReceiveCount":1}"#] {
            assert_eq!(RedrivePolicy::parse(text), None, "{text}");
        }
    }
}
