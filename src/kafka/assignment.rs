//! What consumers tell each other through the coordinator, which doesn't look into it: subscriptions and assignments
//! (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment` of Apache Kafka). Both begin with a version i16 and
//! are read by readers of any version, whatever follows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
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

/// Reads which topics a member wants; `None` if it is no subscription of consumers.
pub fn subscription(mut bytes: Bytes) -> Option<BTreeSet<String>> {
    let _version = bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    (0..count).map(|_| string(&mut bytes)).collect()
}

/// A subscription to one topic: version 0, without the client's own data.
pub fn subscription_bytes(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    put_string(&mut bytes, topic);
    bytes.put_i32(-1);
    bytes.freeze()
}

/// An assignment: version 0, without the client's own data.
pub fn assignment_bytes(assignment: &Assignment) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(assignment.len() as i32);
    for (topic, partitions) in assignment {
        put_string(&mut bytes, topic);
        bytes.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// A topic's partitions for each of its members in turn, as Kafka's `RangeAssignor` has them: the first members get one
/// more where they can't be shared evenly.
pub fn range(partitions: usize, members: usize) -> impl Iterator<Item = Range<PartitionId>> {
    let (each, rest) = (partitions / members.max(1), partitions % members.max(1));
    let start = move |member: usize| (member * each + member.min(rest)) as PartitionId;
    (0..members).map(move |member| start(member)..start(member + 1))
}

/// Names of topics have up to 249 bytes.
fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_those_of_kafkas_assignor() {
        for (partitions, members, ranges) in [
            (7, 3, vec![0..3, 3..5, 5..7]),
            (4, 2, vec![0..2, 2..4]),
            (1, 2, vec![0..1, 1..1]),
            (0, 2, vec![0..0, 0..0]),
        ] {
            assert_eq!(range(partitions, members).collect::<Vec<_>>(), ranges);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let assigned = Assignment::from([("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![1])]);
        assert_eq!(assignment(assignment_bytes(&assigned)), Some(assigned));
        assert_eq!(subscription(subscription_bytes("a")), Some(BTreeSet::from(["a".to_owned()])));
        assert_eq!(assignment(Bytes::new()), Some(Assignment::new()));
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = assignment_bytes(&Assignment::from([("topic".to_owned(), vec![0])]));
        // The last four bytes are the client's own data.
        for length in 1..whole.len() - 4 {
            assert_eq!(assignment(whole.slice(..length)), None, "{length}");
        }
        let whole = subscription_bytes("topic");
        for length in 0..whole.len() - 4 {
            assert_eq!(subscription(whole.slice(..length)), None, "{length}");
        }
    }
}
