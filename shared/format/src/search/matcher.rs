//! Whether a record is what a query means: the only definition of it.

use std::cell::OnceCell;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::{Phrase, Query, Token, tokens, value_words};
use crate::batch::Record;
use crate::job::{IndexSettings, ValueFormat};

/// Words of a value that are highlighted at most.
pub const HIGHLIGHTS_MAX: usize = 256;

/// A query made ready to be asked of many records. The value of a record is read at most once, however many words are
/// looked for.
#[derive(Clone, Debug)]
pub struct RecordMatcher {
    condition: Condition,
    phrases: PhraseSet,
    /// Of each phrase: whether finding it speaks for the record (it stands below no NOT, or an even number of them).
    wanted: Vec<bool>,
    values: ValueFormat,
}

#[derive(Clone, Debug)]
enum Condition {
    All,
    /// By index into the phrases.
    Value(usize),
    Key(Bytes),
    Header(String, PhraseSet),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
}

impl RecordMatcher {
    /// For the records of a topic with these settings.
    pub fn new(query: &Query, settings: IndexSettings) -> Self {
        let mut phrases = Vec::new();
        let mut wanted = Vec::new();
        let condition = compile(query, true, &mut phrases, &mut wanted);
        Self { condition, phrases: PhraseSet::new(phrases), wanted, values: settings.value_format }
    }

    /// Whether the record is meant.
    pub fn matches(&self, record: &Record) -> bool {
        self.holds(&self.condition, record, &OnceCell::new())
    }

    /// Where in the value of a record the words stand that speak for it: ascending ranges of bytes that don't overlap,
    /// at most [`HIGHLIGHTS_MAX`].
    pub fn highlights(&self, record: &Record) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let Some(value) = record.value.as_deref() else {
            return ranges;
        };
        self.phrases.find(value_words(value, self.values), |phrase, window| {
            if self.wanted[phrase] {
                ranges.extend(window.map(|token| token.from..token.to));
            }
            ranges.len() < HIGHLIGHTS_MAX
        });
        ranges.sort_by_key(|range| range.start);
        ranges.dedup();
        ranges.truncate(HIGHLIGHTS_MAX);
        ranges
    }

    fn holds(&self, condition: &Condition, record: &Record, found: &OnceCell<Vec<bool>>) -> bool {
        match condition {
            Condition::All => true,
            Condition::Value(phrase) => found.get_or_init(|| self.phrases_of(record))[*phrase],
            Condition::Key(key) => record.key.as_ref() == Some(key),
            Condition::Header(name, phrase) => record
                .headers
                .iter()
                .filter(|header| header.key == name.as_bytes())
                .any(|header| header.value.as_deref().is_some_and(|value| phrase.found_in(tokens(value))[0])),
            Condition::And(parts) => parts.iter().all(|part| self.holds(part, record, found)),
            Condition::Or(parts) => parts.iter().any(|part| self.holds(part, record, found)),
            Condition::Not(part) => !self.holds(part, record, found),
        }
    }

    fn phrases_of(&self, record: &Record) -> Vec<bool> {
        match record.value.as_deref() {
            Some(value) => self.phrases.found_in(value_words(value, self.values)),
            None => vec![false; self.phrases.list.len()],
        }
    }
}

fn compile(query: &Query, speaks_for: bool, phrases: &mut Vec<Phrase>, wanted: &mut Vec<bool>) -> Condition {
    let mut all = |parts: &[Query]| {
        let mut parts: Vec<_> = parts.iter().map(|part| compile(part, speaks_for, phrases, wanted)).collect();
        parts.sort_by_key(|part| !matches!(part, Condition::Key(_)));
        parts
    };
    match query {
        Query::All => Condition::All,
        Query::Key(key) => Condition::Key(key.clone()),
        Query::Header { name, phrase } => Condition::Header(name.clone(), PhraseSet::new(vec![phrase.clone()])),
        Query::And(parts) => Condition::And(all(parts)),
        Query::Or(parts) => Condition::Or(all(parts)),
        Query::Not(part) => Condition::Not(Box::new(compile(part, !speaks_for, phrases, wanted))),
        Query::Value(phrase) => {
            phrases.push(phrase.clone());
            wanted.push(speaks_for);
            Condition::Value(phrases.len() - 1)
        }
    }
}

/// Phrases that are looked for in one pass through a text.
#[derive(Clone, Debug)]
struct PhraseSet {
    list: Vec<Phrase>,
    by_last_token: HashMap<String, Vec<usize>>,
    longest: usize,
}

impl PhraseSet {
    fn new(list: Vec<Phrase>) -> Self {
        let mut by_last_token: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, phrase) in list.iter().enumerate() {
            if let Some(last) = phrase.tokens.last() {
                by_last_token.entry(last.clone()).or_default().push(at);
            }
        }
        let longest = list.iter().map(|phrase| phrase.tokens.len()).max().unwrap_or(0);
        Self { list, by_last_token, longest }
    }

    /// Of each phrase, whether it is among the words.
    fn found_in<'a>(&self, text: impl Iterator<Item = Token<'a>>) -> Vec<bool> {
        let mut found = vec![false; self.list.len()];
        let mut missing = found.len();
        self.find(text, |phrase, _| {
            missing -= usize::from(!std::mem::replace(&mut found[phrase], true));
            missing > 0
        });
        found
    }

    /// Tells of each occurrence of each phrase, in the order of their ends, until `on_found` returns false.
    fn find<'a>(
        &self,
        text: impl Iterator<Item = Token<'a>>,
        mut on_found: impl FnMut(usize, &mut dyn Iterator<Item = &Token<'a>>) -> bool,
    ) {
        let mut window: VecDeque<Token<'a>> = VecDeque::new();
        for token in text {
            let ending_here = self.by_last_token.get(token.text.as_ref());
            if window.len() == self.longest {
                window.pop_front();
            }
            window.push_back(token);
            for &phrase in ending_here.into_iter().flatten() {
                let words = &self.list[phrase].tokens;
                if stands_at_end(&window, words)
                    && !on_found(phrase, &mut window.iter().skip(window.len() - words.len()))
                {
                    return;
                }
            }
        }
    }
}

/// Whether the last tokens of the window are these words, without a word between them.
fn stands_at_end(window: &VecDeque<Token<'_>>, words: &[String]) -> bool {
    let Some(start) = window.len().checked_sub(words.len()) else {
        return false;
    };
    let first = window[start].position;
    window
        .iter()
        .skip(start)
        .zip(words)
        .zip(first..)
        .all(|((token, word), at)| token.position == at && token.text == *word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::batch::RecordHeader;
    use crate::search::parse;

    fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Record {
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        Record {
            offset: 0,
            timestamp: 0,
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers
                .iter()
                .map(|(key, value)| RecordHeader { key: bytes(key.as_bytes()), value: value.map(bytes) })
                .collect(),
        }
    }

    fn matches(query: &str, record: &Record) -> bool {
        RecordMatcher::new(&parse(query).unwrap(), IndexSettings::default()).matches(record)
    }

    #[test]
    fn what_users_look_for() {
        let line = record(
            Some(b"dn-7"),
            Some(b"ERROR blk_12 lost on 10.0.0.1, blk_13 kept"),
            &[("host", Some(b"web-1 eu")), ("host", None)],
        );
        for query in [
            "",
            "error",
            "blk_12",
            "10.0.0.1",
            "\"lost on\"",
            "error OR x",
            "NOT x",
            "key:dn-7",
            "headers.host:EU",
            "key:dn-7 NOT (x OR y)",
        ] {
            assert!(matches(query, &line), "{query}");
        }
        for query in [
            "x",
            "blk_14",
            "0.0.0.1.1",
            "\"on lost\"",
            "\"12 13\"",
            "NOT error",
            "key:dn",
            "key:DN-7",
            "headers.Host:eu",
            "dn",
            "headers.host:\"1 web\"",
        ] {
            assert!(!matches(query, &line), "{query}");
        }
    }

    #[test]
    fn a_tombstone_without_a_key_matches_only_what_is_not_there() {
        let tombstone = record(None, None, &[]);
        assert!(matches("", &tombstone) && matches("NOT x", &tombstone));
        assert!(!matches("x", &tombstone) && !matches("key:\"\"", &tombstone));
    }

    #[test]
    fn values_of_a_topic_without_value_search_are_not_looked_at() {
        let settings = IndexSettings { value_format: ValueFormat::None, ..IndexSettings::default() };
        let line = record(Some(b"k"), Some(b"word"), &[]);
        assert!(!RecordMatcher::new(&parse("word").unwrap(), settings).matches(&line));
        assert!(RecordMatcher::new(&parse("NOT word").unwrap(), settings).matches(&line));
        assert!(RecordMatcher::new(&parse("word").unwrap(), settings).highlights(&line).is_empty());
        assert!(RecordMatcher::new(&parse("key:k").unwrap(), settings).matches(&line));
    }

    #[test]
    fn a_word_that_was_left_out_still_separates() {
        let value = format!("a {} b", "x".repeat(300));
        assert!(!matches("\"a b\"", &record(None, Some(value.as_bytes()), &[])));
    }

    #[test]
    fn highlights_are_where_the_words_stand() {
        let value = "Größe: blk_1 GRÖSSE größe blk 1 blk 2";
        let line = record(None, Some(value.as_bytes()), &[]);
        let highlighted = |query: &str| -> Vec<&str> {
            let ranges = RecordMatcher::new(&parse(query).unwrap(), IndexSettings::default()).highlights(&line);
            ranges.into_iter().map(|range| &value[range]).collect()
        };
        assert_eq!(highlighted("größe"), ["Größe", "GRÖSSE", "größe"]);
        assert_eq!(highlighted("blk_1 OR blk"), ["blk", "1", "blk", "1", "blk"]);
        assert_eq!(highlighted("NOT größe NOT (NOT 2)"), ["2"]);
        assert!(highlighted("").is_empty());
    }

    #[test]
    fn json_is_matched_by_its_decoded_strings() {
        let json = r#"{"stack":"boom\n\tat com.acme\nCaused by: x","city":"Z\u00fcrich ΣΊΣΥΦΟΣ"}"#;
        let json = record(None, Some(json.as_bytes()), &[]);
        let value = json.value.as_deref().unwrap();
        for (query, expected) in [
            ("caused", &["Caused"][..]),
            ("\"boom at\"", &["boom", "at"]),
            ("zürich", &["Z\\u00fcrich"]),
            ("σίσυφος", &["ΣΊΣΥΦΟΣ"]),
            ("ncaused", &[]),
            ("\"x city\"", &[]),
        ] {
            let matcher = RecordMatcher::new(&parse(query).unwrap(), IndexSettings::default());
            assert_eq!(matcher.matches(&json), !expected.is_empty(), "{query}");
            let highlights = matcher.highlights(&json).into_iter();
            let highlighted: Vec<_> = highlights.map(|range| std::str::from_utf8(&value[range]).unwrap()).collect();
            assert_eq!(highlighted, expected, "{query}");
        }
        let text = IndexSettings { value_format: ValueFormat::Text, ..IndexSettings::default() };
        assert!(RecordMatcher::new(&parse("ncaused").unwrap(), text).matches(&json));
    }

    #[test]
    fn highlights_are_bounded() {
        let line = record(None, Some("a ".repeat(10_000).as_bytes()), &[]);
        assert_eq!(
            RecordMatcher::new(&parse("a").unwrap(), IndexSettings::default()).highlights(&line).len(),
            HIGHLIGHTS_MAX
        );
    }

    /// Words by another way than [`tokens`]: the whole text first, then its pieces.
    fn naive_words(text: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words
            .map(|word| {
                word.chars()
                    .flat_map(char::to_lowercase)
                    .flat_map(char::to_uppercase)
                    .flat_map(char::to_lowercase)
                    .filter(|c| c.is_alphanumeric())
                    .collect()
            })
            .collect()
    }

    fn naive_phrase(text: Option<&Bytes>, phrase: &Phrase) -> bool {
        text.is_some_and(|text| naive_words(text).windows(phrase.tokens.len()).any(|words| words == phrase.tokens))
    }

    fn naive(query: &Query, record: &Record) -> bool {
        match query {
            Query::All => true,
            Query::Value(phrase) => naive_phrase(record.value.as_ref(), phrase),
            Query::Key(key) => record.key.as_deref() == Some(key),
            Query::Header { name, phrase } => {
                record.headers.iter().any(|header| header.key == *name && naive_phrase(header.value.as_ref(), phrase))
            }
            Query::And(parts) => parts.iter().all(|part| naive(part, record)),
            Query::Or(parts) => parts.iter().any(|part| naive(part, record)),
            Query::Not(part) => !naive(part, record),
        }
    }

    const PIECES: &[&[u8]] = &[
        b"a",
        b"B",
        b"ab",
        b"7",
        b"_",
        b" ",
        b".",
        b"\xff",
        "İ".as_bytes(),
        "ß".as_bytes(),
        b"i",
        "\u{307}".as_bytes(),
    ];

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_scan(
            key in prop::option::of(text()),
            value in prop::option::of(text()),
            header in prop::option::of(text()),
            query in prop::collection::vec(prop::sample::select(&[
                "a", "b", "a_b", "ab", "\"a 7 a\"", "7", "i", "\"i ß\"", "NOT", "OR", "AND", "(", ")", "key:a", "key:\"\"", "headers.h:a", "headers.h:\"a b\"",
            ][..]), 0..8),
        ) {
            let headers = [("h", header.as_deref()), ("H", Some(&b"a b"[..]))];
            let record = record(key.as_deref(), value.as_deref(), &headers);
            if let Ok(query) = parse(&query.join(" ")) {
                let matcher = RecordMatcher::new(&query, IndexSettings::default());
                prop_assert_eq!(matcher.matches(&record), naive(&query, &record), "{}", query);
                let mut end = 0;
                for range in matcher.highlights(&record) {
                    prop_assert!(range.start >= end && range.end <= record.value.as_ref().unwrap().len());
                    end = range.end;
                }
            }
        }
    }
}
