//! Where a topic's records are, at one moment: the broker's position first, then a catalog that is not older.

use std::ops::Range;
use std::sync::Arc;

use chronik_format::catalog::{CatalogError, CatalogReader, PartitionHead, TopicHead};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_format::job::IndexSettings;
use chronik_peers::tail::{SharedTail, TailError, TailPartition, TailTopic};

use super::SearchError;

/// What to ask for positions: the catalog, and the broker if there is one.
#[derive(Clone)]
pub(crate) struct LayoutSources {
    pub(crate) catalog: Arc<CatalogReader>,
    pub(crate) tail: Option<SharedTail>,
}

/// A topic and where its records are.
#[derive(Clone, Debug)]
pub(crate) struct TopicLayout {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) search_enabled: bool,
    /// How its records are searched.
    pub(crate) settings: IndexSettings,
    /// `None` if the topic is too new to be in the catalog.
    pub(crate) head: Option<Arc<TopicHead>>,
    pub(crate) partitions: Vec<PartitionLayout>,
}

/// A partition's readable offsets: `bucket` and behind it `tail`. Between the two lie at most offsets that no record
/// has, or a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionLayout {
    pub(crate) partition: PartitionId,
    /// Offsets to be read from segments.
    pub(crate) bucket: Range<Offset>,
    /// Offsets to be read from the broker.
    pub(crate) tail: Range<Offset>,
    pub(crate) gap: Option<LayoutGap>,
}

/// Offsets that are neither in the catalog nor in the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayoutGap {
    pub(crate) from: Offset,
    /// Exclusive; `None` if it is unknown.
    pub(crate) to: Option<Offset>,
    pub(crate) reason: String,
}

/// Where a topic stands, by the broker.
enum BrokerPosition {
    Known(TailTopic),
    /// There is no broker to ask.
    NoBroker,
    /// The broker did not answer, for this reason.
    Unreachable(String),
}

impl PartitionLayout {
    /// All readable offsets.
    pub(crate) fn range(&self) -> Range<Offset> {
        self.bucket.start..self.tail.end
    }
}

impl LayoutSources {
    /// The names of all topics, and why they may be too few.
    pub(crate) async fn topics(&self) -> Result<Vec<String>, SearchError> {
        if let Some(tail) = &self.tail
            && let Ok(topics) = tail.topics().await
        {
            return Ok(topics);
        }
        let catalog = self.catalog.refresh().await?;
        Ok(catalog.topics().map(|(name, _)| name.to_owned()).collect())
    }

    /// Where a topic stands, or `None` if there is none of this name.
    pub(crate) async fn layout(&self, name: &str) -> Result<Option<TopicLayout>, SearchError> {
        let position = match &self.tail {
            None => BrokerPosition::NoBroker,
            Some(tail) => match tail.topic(name).await {
                Ok(Some(topic)) => BrokerPosition::Known(topic),
                Ok(None) => return Ok(None),
                Err(error) => BrokerPosition::Unreachable(error.to_string()),
            },
        };
        match self.head_for(name, &position).await {
            // Whether there is such a topic only the broker knows.
            Ok(None) if let BrokerPosition::Unreachable(message) = position => {
                Err(TailError::Unavailable { message }.into())
            }
            Ok(head) => Ok(layout_of(name, &position, head, None)),
            // The tail can be searched without a catalog; what is not in it shows as a gap.
            Err(error) if matches!(position, BrokerPosition::Known(_)) => {
                Ok(layout_of(name, &position, None, Some(&error.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The topic's head, of a catalog that is at least as new as the broker's position.
    async fn head_for(&self, name: &str, position: &BrokerPosition) -> Result<Option<Arc<TopicHead>>, CatalogError> {
        let head = self.catalog.topic(name).await?;
        if head.as_ref().is_some_and(|head| reaches(head, position)) {
            return Ok(head);
        }
        let head = self.catalog.refresh().await?.topic(name).await?;
        Ok(head.filter(|head| !matches!(position, BrokerPosition::Known(topic) if topic.id != head.id)))
    }
}

/// Whether the head is of the same topic and there is no gap between it and the tail.
fn reaches(head: &TopicHead, position: &BrokerPosition) -> bool {
    let BrokerPosition::Known(topic) = position else { return true };
    let shipped_to = |partition| partition_head(head, partition).map_or(0, |head| head.shipped_to);
    head.id == topic.id && topic.partitions.iter().all(|tail| shipped_to(tail.partition) >= tail.start)
}

fn partition_head(head: &TopicHead, partition: PartitionId) -> Option<&PartitionHead> {
    let at = head.partitions.binary_search_by_key(&partition, |head| head.partition).ok()?;
    head.partitions.get(at)
}

fn layout_of(
    name: &str,
    position: &BrokerPosition,
    head: Option<Arc<TopicHead>>,
    why_behind: Option<&str>,
) -> Option<TopicLayout> {
    let (id, search_enabled, settings, partitions) = match (position, &head) {
        (BrokerPosition::Known(topic), _) => {
            let of = |tail: &TailPartition| head.as_deref().and_then(|head| partition_head(head, tail.partition));
            let partitions = topic.partitions.iter().map(|tail| with_tail(tail, of(tail), why_behind)).collect();
            (topic.id, topic.search_enabled, topic.index, partitions)
        }
        (BrokerPosition::NoBroker | BrokerPosition::Unreachable(_), None) => return None,
        (BrokerPosition::NoBroker, Some(head)) => (
            head.id,
            head.search_enabled,
            head.index,
            head.partitions.iter().map(|head| bucket_only(head, None)).collect(),
        ),
        (BrokerPosition::Unreachable(why), Some(head)) => (
            head.id,
            head.search_enabled,
            head.index,
            head.partitions.iter().map(|head| bucket_only(head, Some(why))).collect(),
        ),
    };
    Some(TopicLayout { name: name.into(), id, search_enabled, settings, head, partitions })
}

fn with_tail(tail: &TailPartition, head: Option<&PartitionHead>, why_behind: Option<&str>) -> PartitionLayout {
    let start = tail.log_start.max(head.map_or(0, |head| head.log_start));
    let end = tail.end.max(start);
    let split = head.map_or(start, |head| head.shipped_to).clamp(start, end);
    let resumed = tail.start.clamp(split, end);
    // Offsets that neither has were used up by appends that were refused, unless the catalog could not be read.
    let gap = why_behind.filter(|_| split < resumed).map(|why| LayoutGap {
        from: split,
        to: Some(resumed),
        reason: why.to_owned(),
    });
    PartitionLayout { partition: tail.partition, bucket: start..split, tail: resumed..end, gap }
}

fn bucket_only(head: &PartitionHead, why_no_tail: Option<&String>) -> PartitionLayout {
    let end = head.shipped_to.min(head.last_stable).max(head.log_start);
    let gap = why_no_tail.map(|why| LayoutGap { from: end, to: None, reason: why.clone() });
    PartitionLayout { partition: head.partition, bucket: head.log_start..end, tail: end..end, gap }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(log_start: Offset, shipped_to: Offset, last_stable: Offset) -> PartitionHead {
        PartitionHead { partition: 0, log_start, shipped_to, last_stable, epochs: Vec::new() }
    }

    fn tail(log_start: Offset, start: Offset, end: Offset) -> TailPartition {
        TailPartition { partition: 0, log_start, start, end }
    }

    #[test]
    fn bucket_and_tail_meet_at_what_the_catalog_has_shipped() {
        for (tail, head, bucket, rest) in [
            (tail(0, 5, 9), Some(head(0, 5, 9)), 0..5, 5..9),
            (tail(0, 5, 9), Some(head(0, 7, 9)), 0..7, 7..9),
            (tail(3, 5, 9), Some(head(0, 7, 9)), 3..7, 7..9),
            (tail(0, 5, 9), Some(head(4, 7, 9)), 4..7, 7..9),
            (tail(0, 5, 9), Some(head(0, 12, 12)), 0..9, 9..9),
            (tail(8, 8, 8), Some(head(0, 5, 5)), 8..8, 8..8),
            (tail(0, 0, 4), None, 0..0, 0..4),
            // Offsets 3 and 4 were used up by an append that was refused.
            (tail(0, 5, 9), Some(head(0, 3, 9)), 0..3, 5..9),
            (tail(2, 5, 9), None, 2..2, 5..9),
        ] {
            let found = with_tail(&tail, head.as_ref(), None);
            assert_eq!((found.bucket, found.tail, found.gap), (bucket, rest, None), "{tail:?} {head:?}");
        }
    }

    #[test]
    fn what_was_shipped_is_missing_if_the_catalog_could_not_be_read() {
        let found = with_tail(&tail(2, 5, 9), None, Some("unplugged"));
        assert_eq!(found.gap, Some(LayoutGap { from: 2, to: Some(5), reason: "unplugged".into() }));
        assert_eq!(with_tail(&tail(5, 5, 9), None, Some("unplugged")).gap, None);
    }

    #[test]
    fn without_a_broker_the_stable_part_of_the_bucket_is_all() {
        assert_eq!(bucket_only(&head(2, 9, 7), None).range(), 2..7);
        assert_eq!(bucket_only(&head(9, 9, 7), None).range(), 9..9);
        let gap = bucket_only(&head(2, 9, 9), Some(&"away".into())).gap;
        assert_eq!(gap, Some(LayoutGap { from: 9, to: None, reason: "away".into() }));
    }
}
