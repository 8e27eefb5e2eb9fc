use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use serde::{Deserialize, Serialize};

use super::SearchError;
use super::order::SortKey;

const VERSION: u32 = 0;

/// Where the next page begins: behind the last hit of this one. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageCursor {
    v: u32,
    /// Of the search that it belongs to; limit and `partial` may change between pages.
    search: u32,
    /// Of the topics that were searched: others may have come, or have their names, by the next page.
    topics: u32,
    /// Hits on the pages so far; not known if the topics changed between them.
    seen: Option<u64>,
    timestamp: Timestamp,
    partition: PartitionId,
    offset: Offset,
    topic: String,
}

impl PageCursor {
    pub(crate) fn behind(last: &SortKey, seen: Option<u64>, topics: u32, search: u32) -> Self {
        Self {
            v: VERSION,
            search,
            topics,
            seen,
            timestamp: last.timestamp,
            partition: last.partition,
            offset: last.offset,
            topic: last.topic.to_string(),
        }
    }

    /// Hits on the pages so far, if the same topics are still searched.
    pub(crate) fn seen_of(&self, topics: u32) -> Option<u64> {
        self.seen.filter(|_| self.topics == topics)
    }

    pub(crate) fn place(&self) -> SortKey {
        SortKey {
            timestamp: self.timestamp,
            partition: self.partition,
            offset: self.offset,
            topic: self.topic.as_str().into(),
        }
    }

    pub(crate) fn text(&self) -> String {
        // Strings and numbers always have a JSON form.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn parse(text: &str, search: u32) -> Result<Self, SearchError> {
        let damaged = SearchError::Cursor { reason: "is not one of ours" };
        let Ok(json) = URL_SAFE_NO_PAD.decode(text) else {
            return Err(damaged);
        };
        let Ok(cursor) = serde_json::from_slice::<Self>(&json) else {
            return Err(damaged);
        };
        match cursor {
            Self { v, .. } if v != VERSION => Err(damaged),
            Self { search: other, .. } if other != search => {
                Err(SearchError::Cursor { reason: "belongs to another search" })
            }
            cursor => Ok(cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cursor_comes_back_for_its_own_search_only() {
        let place = SortKey { timestamp: -1, partition: 3, offset: i64::MAX, topic: "t \"ä".into() };
        let cursor = PageCursor::behind(&place, Some(40), 3, 7);
        let text = cursor.text();
        assert_eq!(PageCursor::parse(&text, 7).unwrap(), cursor);
        assert_eq!(cursor.place(), place);
        assert_eq!((cursor.seen_of(3), cursor.seen_of(4)), (Some(40), None));
        assert!(matches!(
            PageCursor::parse(&text, 8),
            Err(SearchError::Cursor { reason: "belongs to another search" })
        ));
        for damaged in ["", "%%", "e30", &text[1..]] {
            assert!(
                matches!(PageCursor::parse(damaged, 7), Err(SearchError::Cursor { reason: "is not one of ours" })),
                "{damaged}"
            );
        }
    }
}
