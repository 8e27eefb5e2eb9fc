//! The words of a record's value.

use serde::de::IgnoredAny;

use super::analysis::{Token, Tokens, WordFolding, tokens};
use crate::job::ValueFormat;

/// The words of a value as its topic's format says:
/// - `json` and `auto`: if the value is one JSON object, array or string and nothing else, the words of each of its
///   strings
///   (keys too), decoded, and of each number, `true`, `false` and `null` as it stands. Words of two of these are never side
///   by side. Half of a surrogate pair separates words. Everything else is text, so what is almost JSON is, too;
/// - `text`: those of the value as it stands;
/// - `none`: there are none.
///
/// A word's place is given in bytes of the value, escapes included.
pub fn value_words(value: &[u8], format: ValueFormat) -> ValueWords<'_> {
    match format {
        ValueFormat::None => ValueWords::Text(tokens("")),
        ValueFormat::Auto | ValueFormat::Json if is_json(value) => {
            ValueWords::Json(JsonWords { json: value, at: 0, part: Part::Plain(tokens("")), part_from: 0, position: 0 })
        }
        ValueFormat::Auto | ValueFormat::Json | ValueFormat::Text => ValueWords::Text(tokens(value)),
    }
}

/// Numbers and the like have the same words as text. Nesting takes no stack: what is ignored is counted only.
fn is_json(value: &[u8]) -> bool {
    matches!(value.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
        && serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

/// See [`value_words`].
#[derive(Clone, Debug)]
pub enum ValueWords<'a> {
    /// Of a text.
    Text(Tokens<'a>),
    /// Of a JSON document.
    Json(JsonWords<'a>),
}

impl<'a> Iterator for ValueWords<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        match self {
            Self::Text(words) => words.next(),
            Self::Json(words) => words.next(),
        }
    }
}

/// The words of a valid JSON document, string by string.
#[derive(Clone, Debug)]
pub struct JsonWords<'a> {
    json: &'a [u8],
    /// Where the next part is looked for.
    at: usize,
    part: Part<'a>,
    /// Where `part` starts.
    part_from: usize,
    /// Of the first word of `part`.
    position: usize,
}

/// A string, or a number or the like.
#[derive(Clone, Debug)]
enum Part<'a> {
    Plain(Tokens<'a>),
    Escaped(EscapedWords<'a>),
}

impl<'a> Iterator for JsonWords<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            if let Some(token) = self.part.next() {
                return Some(Token {
                    from: self.part_from + token.from,
                    to: self.part_from + token.to,
                    position: self.position + token.position,
                    ..token
                });
            }
            // One position is left out, so that no phrase leads from one part into the next.
            self.position += self.part.words() + 1;
            self.next_part()?;
        }
    }
}

impl JsonWords<'_> {
    fn next_part(&mut self) -> Option<()> {
        let rest = &self.json[self.at..];
        self.at += rest.iter().position(|byte| !is_structure(*byte))?;
        let rest = &self.json[self.at..];
        let quote = usize::from(rest[0] == b'"');
        self.part_from = self.at + quote;
        let (length, escaped) = match quote {
            0 => (rest.iter().position(|byte| is_structure(*byte) || *byte == b'"'), false),
            _ => string_length(&rest[quote..]),
        };
        let length = length.unwrap_or(rest.len() - quote);
        let part = &rest[quote..quote + length];
        self.at = self.json.len().min(self.part_from + length + quote);
        self.part = match escaped {
            true => Part::Escaped(EscapedWords { text: part, at: 0, position: 0 }),
            false => Part::Plain(tokens(part)),
        };
        Some(())
    }
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'{' | b'}' | b'[' | b']' | b':' | b',')
}

/// Bytes up to the quote that ends the string, and whether there are escapes among them.
fn string_length(text: &[u8]) -> (Option<usize>, bool) {
    let mut at = 0;
    let mut escaped = false;
    loop {
        match text.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))) {
            None => return (None, escaped),
            Some(before) if text[at + before] == b'"' => return (Some(at + before), escaped),
            Some(before) => {
                escaped = true;
                at += before + 2;
            }
        }
    }
}

impl<'a> Part<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        match self {
            Self::Plain(words) => words.next(),
            Self::Escaped(words) => words.next(),
        }
    }

    /// How many words came, those that are left out included.
    fn words(&self) -> usize {
        match self {
            Self::Plain(words) => words.position(),
            Self::Escaped(words) => words.position,
        }
    }
}

/// The words of a JSON string with escapes, without its quotes.
#[derive(Clone, Debug)]
struct EscapedWords<'a> {
    text: &'a [u8],
    at: usize,
    position: usize,
}

impl<'a> EscapedWords<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let (mut from, mut c) = (self.at, self.letter()?);
            while c.is_none() {
                (from, c) = (self.at, self.letter()?);
            }
            let mut word = WordFolding::default();
            let mut to = from;
            while let Some(letter) = c {
                word.push(letter);
                to = self.at;
                c = self.letter().flatten();
            }
            let position = self.position;
            self.position += 1;
            if let Some(text) = word.finish() {
                return Some(Token { text: text.into(), from, to, position });
            }
        }
    }

    /// Goes behind the next character; `Some(None)` if it separates words, `None` at the end.
    fn letter(&mut self) -> Option<Option<char>> {
        let rest = &self.text[self.at..];
        let (c, length) = match rest.first()? {
            b'\\' => escape(rest),
            byte if byte.is_ascii() => (Some(char::from(*byte)), 1),
            _ => character(&rest[..rest.len().min(4)]),
        };
        self.at += length.min(rest.len());
        Some(c.filter(|c| c.is_alphanumeric()))
    }
}

/// The character that an escape stands for, if it may be a letter, and its bytes. Only `\u` may: the others are quotes,
/// slashes and white space.
fn escape(text: &[u8]) -> (Option<char>, usize) {
    let Some(unit) = code_unit(text) else { return (None, 2) };
    if let 0xd800..=0xdbff = unit
        && let Some(low @ 0xdc00..=0xdfff) = text.get(6..).and_then(code_unit)
    {
        return (char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)), 12);
    }
    (char::from_u32(unit), 6)
}

/// Of `\uXXXX`.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// The first character of these bytes, or how many of them are not one.
fn character(bytes: &[u8]) -> (Option<char>, usize) {
    let Some(chunk) = bytes.utf8_chunks().next() else {
        return (None, 1);
    };
    match chunk.valid().chars().next() {
        Some(c) => (Some(c), c.len_utf8()),
        None => (None, chunk.invalid().len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn words(value: &str) -> Vec<String> {
        value_words(value.as_bytes(), ValueFormat::Auto).map(|token| token.text.into_owned()).collect()
    }

    #[test]
    fn json_has_the_words_of_its_decoded_strings() {
        let stack =
            r#"{"error":"boom\n\tat com.acme.Main\r\nCaused by: x","pl\u0061ce":["Z\u00fcrich",-1.5e3,true,null]}"#;
        assert_eq!(
            words(stack),
            [
                "error", "boom", "at", "com", "acme", "main", "caused", "by", "x", "place", "zürich", "1", "5e3",
                "true", "null"
            ]
        );
        assert_eq!(words(r#" "\ud83d\ude00a\ud835\udc00b" "#), ["a𝐀b"]);
        // Halves of pairs, NUL and invalid bytes separate.
        assert_eq!(words(r#"["a\ud800b\udc00c\u0000d"]"#), ["a", "b", "c", "d"]);
        let found: Vec<_> = value_words(b"[\"a\\n\xff\\u0062\xe2\x82\"]", ValueFormat::Json).collect();
        assert_eq!((found.len(), &*found[1].text, found[1].from, found[1].to), (2, "b", 6, 12));
    }

    #[test]
    fn what_is_not_json_is_text() {
        for value in [r#"{"a\nb"}"#, r#"{"a":"b\nc"} x"#, r#"{"a":"b\nc""#, r#"x "b\nc""#, r#"["b\nc\q"]"#] {
            assert!(!words(value).contains(&"c".to_owned()), "{value}");
        }
        let raw = |format| value_words(br#""b\nc""#, format).map(|token| token.text.into_owned()).collect::<Vec<_>>();
        assert_eq!(raw(ValueFormat::Text), ["b", "nc"]);
        assert_eq!(raw(ValueFormat::Json), ["b", "c"]);
        assert!(raw(ValueFormat::None).is_empty());
    }

    #[test]
    fn words_of_two_strings_are_not_side_by_side() {
        let positions: Vec<_> = value_words(br#"{"a b":"c\td","":[1.5,"e"]}"#, ValueFormat::Auto)
            .map(|token| (token.text.into_owned(), token.position))
            .collect();
        let first = positions[0].1;
        let relative: Vec<_> = positions.iter().map(|(word, at)| (word.as_str(), at - first)).collect();
        assert_eq!(relative, [("a", 0), ("b", 1), ("c", 3), ("d", 4), ("1", 7), ("5", 8), ("e", 10)]);
    }

    #[test]
    fn neither_depth_nor_size_is_too_much() {
        let depth = 100_000;
        let deep = format!(r#"{}"a\nb"{}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(words(&deep), ["a", "b"]);
        assert!(words(&"[".repeat(depth)).is_empty());
        let number = "9".repeat(1_000);
        assert!(words(&format!("[{number}]")).is_empty(), "too long a word");
        assert_eq!(words("[1e99999999,1]"), ["1e99999999", "1"]);
        assert_eq!(words(r#"{"a":1,"a":2}"#), ["a", "1", "a", "2"]);
    }

    /// The strings and scalars of a document, in their order.
    fn parts(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| parts(value, found)),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                found.push(name.clone());
                parts(value, found);
            }),
            Value::String(text) => found.push(text.clone()),
            scalar => found.push(scalar.to_string()),
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let text = prop_oneof![".{0,8}", "[a\"\\\\\n\u{0}ßé𝐀]{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 1..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// As many encoders write it: everything but ASCII escaped.
    fn escaped(json: &str) -> String {
        let escape = |c: char| match c.is_ascii() {
            true => c.to_string(),
            false => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }
        };
        json.chars().map(escape).collect()
    }

    proptest! {
        #[test]
        fn a_decoder_finds_the_same_words(document in document()) {
            let mut strings = Vec::new();
            parts(&document, &mut strings);
            let expected: Vec<String> = strings.iter().flat_map(tokens).map(|token| token.text.into_owned()).collect();
            let json = document.to_string();
            prop_assert_eq!(&words(&json), &expected);
            prop_assert_eq!(&words(&escaped(&json)), &expected);
        }

        #[test]
        fn anything_has_words_that_lie_in_it(value: Vec<u8>, quoted: bool) {
            let value = if quoted { [b"[\"\\n", &value[..], b"\"]"].concat() } else { value };
            let mut end = 0;
            let mut next = 0;
            for token in value_words(&value, ValueFormat::Auto) {
                prop_assert!(token.from >= end && token.from < token.to && token.to <= value.len());
                prop_assert!(token.position >= next);
                (end, next) = (token.to, token.position + 1);
            }
        }
    }
}
