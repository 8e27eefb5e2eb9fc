use std::str::FromStr;

use chronik_format::ids::{PartitionId, Timestamp};
use chronik_format::search::{Query, parse};
use chrono::DateTime;

use super::SearchError;
use super::cursor::PageCursor;
use super::order::HitOrder;

/// Hits on a page, if the request doesn't say.
const LIMIT: usize = 10;
/// Hits on a page at most.
const LIMIT_MAX: usize = 10_000;
/// Topics and partitions that a request may name.
const NAMES_MAX: usize = 1_000;

/// A search as it was asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct SearchRequest {
    /// All topics if empty.
    pub(crate) topics: Vec<String>,
    /// All partitions if empty.
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) query: Query,
    /// Inclusive.
    pub(crate) from: Option<Timestamp>,
    /// Exclusive.
    pub(crate) to: Option<Timestamp>,
    pub(crate) limit: usize,
    pub(crate) sort: HitOrder,
    pub(crate) cursor: Option<PageCursor>,
    /// Whether an answer that leaves something out is welcome.
    pub(crate) partial: bool,
    /// Names the search, so that a cursor is not used with another one.
    pub(crate) fingerprint: u32,
}

impl SearchRequest {
    /// Reads parameters; `topic` and `partition` may be repeated.
    pub(crate) fn from_parameters(parameters: impl IntoIterator<Item = (String, String)>) -> Result<Self, SearchError> {
        let mut given = Given::default();
        for (name, value) in parameters {
            let twice = match name.as_str() {
                "topic" => push(&mut given.topics, &name, value)?,
                "partition" => push(&mut given.partitions, &name, partition(&name, &value)?)?,
                "q" => given.query.replace(value).is_some(),
                "from" => given.from.replace(point_in_time(&name, &value)?).is_some(),
                "to" => given.to.replace(point_in_time(&name, &value)?).is_some(),
                "limit" => given.limit.replace(limit(&name, &value)?).is_some(),
                "sort" => given
                    .sort
                    .replace(one_of(&name, &value, &[("newest", HitOrder::Newest), ("oldest", HitOrder::Oldest)])?)
                    .is_some(),
                "partial" => {
                    given.partial.replace(one_of(&name, &value, &[("true", true), ("false", false)])?).is_some()
                }
                "cursor" => given.cursor.replace(value).is_some(),
                _ => return Err(SearchError::parameter(&name, "a search has no such parameter")),
            };
            if twice {
                return Err(SearchError::parameter(&name, "may be given once only"));
            }
        }
        given.checked()
    }
}

#[derive(Default)]
struct Given {
    topics: Vec<String>,
    partitions: Vec<PartitionId>,
    query: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
    sort: Option<HitOrder>,
    cursor: Option<String>,
    partial: Option<bool>,
}

impl Given {
    fn checked(mut self) -> Result<SearchRequest, SearchError> {
        self.topics.sort_unstable();
        self.topics.dedup();
        self.partitions.sort_unstable();
        self.partitions.dedup();
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(SearchError::parameter("from", format!("{from} ms is later than to, which is {to} ms")));
        }
        let query = parse(self.query.as_deref().unwrap_or_default())?;
        let sort = self.sort.unwrap_or(HitOrder::Newest);
        let identity = format!("{:?}", (&self.topics, &self.partitions, &query, self.from, self.to, sort));
        let fingerprint = crc32c::crc32c(identity.as_bytes());
        Ok(SearchRequest {
            topics: self.topics,
            partitions: self.partitions,
            query,
            from: self.from,
            to: self.to,
            limit: self.limit.unwrap_or(LIMIT),
            sort,
            cursor: self.cursor.map(|text| PageCursor::parse(&text, fingerprint)).transpose()?,
            partial: self.partial.unwrap_or(false),
            fingerprint,
        })
    }
}

/// Adds one of several values; they are never one too many because of being given twice.
fn push<T>(list: &mut Vec<T>, name: &str, value: T) -> Result<bool, SearchError> {
    if list.len() == NAMES_MAX {
        return Err(SearchError::parameter(name, format!("may be given {NAMES_MAX} times at most")));
    }
    list.push(value);
    Ok(false)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, SearchError> {
    value.parse().map_err(|_| SearchError::parameter(name, format!("{value:?} is not a number that fits")))
}

fn partition(name: &str, value: &str) -> Result<PartitionId, SearchError> {
    match number(name, value)? {
        partition if partition >= 0 => Ok(partition),
        partition => Err(SearchError::parameter(name, format!("{partition} is less than 0"))),
    }
}

fn limit(name: &str, value: &str) -> Result<usize, SearchError> {
    match number(name, value)? {
        limit if limit <= LIMIT_MAX => Ok(limit),
        limit => Err(SearchError::parameter(name, format!("{limit} is more than {LIMIT_MAX}"))),
    }
}

/// Milliseconds since the epoch, as such or as an RFC 3339 date and time with its offset. Fractions below a millisecond
/// are cut off.
fn point_in_time(name: &str, value: &str) -> Result<Timestamp, SearchError> {
    let accepted = "is neither milliseconds since 1970 nor a time like 2026-03-01T12:00:00Z";
    let written = || DateTime::parse_from_rfc3339(value).map(|time| time.timestamp_millis());
    let time = value.parse().or_else(|_| written());
    time.map_err(|_| SearchError::parameter(name, format!("{value:?} {accepted}")))
}

fn one_of<T: Copy>(name: &str, value: &str, accepted: &[(&str, T)]) -> Result<T, SearchError> {
    let found = accepted.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    let words: Vec<_> = accepted.iter().map(|(word, _)| *word).collect();
    found.ok_or_else(|| SearchError::parameter(name, format!("{value:?} is not one of {}", words.join(", "))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(parameters: &[(&str, &str)]) -> Result<SearchRequest, SearchError> {
        SearchRequest::from_parameters(parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn defaults() {
        let request = request(&[]).unwrap();
        assert!(
            request.topics.is_empty() && request.partitions.is_empty() && request.cursor.is_none() && !request.partial
        );
        assert_eq!((request.query, request.limit, request.sort), (Query::All, 10, HitOrder::Newest));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("limit", "10001"),
            ("limit", "-1"),
            ("limit", "many"),
            ("sort", "best"),
            ("partial", "yes"),
            ("from", "yesterday"),
            ("to", ""),
            ("partition", "a"),
            ("partition", "-1"),
            ("topics", "a"),
        ] {
            assert!(
                matches!(request(&[(name, value)]), Err(SearchError::Parameter { name: named, .. }) if named == name),
                "{name}={value}"
            );
        }
        let backwards = request(&[("to", "1970-01-01T00:00:01Z"), ("from", "1001")]).unwrap_err();
        assert_eq!(backwards.to_string(), "from: 1001 ms is later than to, which is 1000 ms");
        assert!(request(&[("to", "1970-01-01T00:00:01Z"), ("from", "1000")]).is_ok());
        assert!(matches!(request(&[("q", "a"), ("q", "b")]), Err(SearchError::Parameter { .. })));
        assert!(matches!(request(&[("q", "a (b")]), Err(SearchError::Query(error)) if error.position == 2));
    }

    #[test]
    fn a_cursor_fits_the_same_search_with_another_limit() {
        let first = request(&[("topic", "b"), ("topic", "a"), ("q", "x")]).unwrap();
        let place = super::super::order::SortKey { timestamp: 1, partition: 0, offset: 4, topic: "a".into() };
        let text = PageCursor::behind(&place, Some(1), 0, first.fingerprint).text();
        let next = [("topic", "a"), ("topic", "b"), ("q", " X "), ("limit", "3"), ("cursor", &text)];
        assert_eq!(request(&next).unwrap().cursor.unwrap().place(), place);
        assert!(matches!(request(&[("q", "x"), ("cursor", &text)]), Err(SearchError::Cursor { .. })));
    }

    #[test]
    fn points_in_time_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1700000000123", 1_700_000_000_123),
            ("-1", -1),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2023-11-14T22:13:20.123456z", 1_700_000_000_123),
            ("2023-11-14 23:43:20.1+01:30", 1_700_000_000_100),
            ("2024-02-29t12:00:00-08:00", 1_709_236_800_000),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ] {
            assert_eq!(point_in_time("from", text).ok(), Some(expected), "{text}");
        }
        for text in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20Zx",
            "äöüäöüäöüäöü",
        ] {
            assert!(point_in_time("from", text).is_err(), "{text}");
        }
    }
}
