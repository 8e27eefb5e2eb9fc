//! What consumers tell each other through the coordinator, which doesn't look into it: subscriptions and assignments
//! (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment` of Apache Kafka). Both begin with a version i16 and
//! are read by readers of any version, whatever follows.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use chronik_format::ids::PartitionId;

/// Partitions by topic.
pub type Assignment = BTreeMap<String, Vec<PartitionId>>;

/// Reads what a member was assigned; empty bytes are nothing, `None` is no assignment of consumers.
pub fn assignment(mut bytes: Bytes) -> Option<Assignment> {
    if bytes.is_empty() {
        return Some(Assignment::new());
    }
    let _version = bytes.try_get_i16().ok()?;
    let mut topics = Assignment::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = string(&mut bytes)?;
        let partitions = topics.entry(topic).or_default();
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.push(bytes.try_get_i32().ok()?);
        }
    }
    Some(topics)
}

fn string(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).into()).ok()
}
