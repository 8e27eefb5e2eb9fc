//! The query language.
//!
//! ```text
//! query  = [ or ]                          nothing: all records
//! or     = and { "OR" and }
//! and    = not { [ "AND" ] not }
//! not    = "NOT" not | part
//! part   = "(" or ")" | [ field ] ( word | quoted )
//! field  = "key:" | "headers." ( name | quoted ) ":"
//! ```
//! A word ends at a space, a parenthesis or a quote. Operators are upper case. Text becomes words by [`tokens`];
//! several are a phrase. A key is taken byte for byte, in quotes also with `\xHH`.

use super::lexer::{Field, Lexeme, Lexer};
use super::{ParseError, Phrase, Query, TOKEN_BYTES_MAX, tokens};

/// Bytes that a query may have.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;
/// How deeply parentheses and NOTs may be nested.
pub const DEPTH_MAX: usize = 64;
/// Words, phrases, keys and headers that a query may have.
pub const TERMS_MAX: usize = 1_024;

/// Parses a query; see the module for the language.
pub fn parse(query: &str) -> Result<Query, ParseError> {
    if query.len() > QUERY_BYTES_MAX {
        let end = query.floor_char_boundary(QUERY_BYTES_MAX);
        return Err(ParseError::new(end, format!("a query has at most {QUERY_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { lexer: Lexer::new(query), next: None, end: query.len(), depth: 0, terms: 0 };
    parser.advance()?;
    if parser.next.is_none() {
        return Ok(Query::All);
    }
    let parsed = parser.or()?;
    match parser.next {
        None => Ok(parsed),
        Some((at, _)) => Err(ParseError::new(at, "this parenthesis was not opened")),
    }
}

/// What the fuzz target calls: any text is a query, which printed and parsed again is the same, or an error within it.
pub fn fuzz_parse(text: &str) {
    match parse(text) {
        Ok(query) => {
            let printed = query.to_string();
            assert!(
                printed.len() > QUERY_BYTES_MAX || parse(&printed).as_ref() == Ok(&query),
                "{text:?} → {printed:?}"
            );
        }
        Err(error) => assert!(text.is_char_boundary(error.position), "{text:?}: {error}"),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Option<(usize, Lexeme)>,
    end: usize,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Option<(usize, Lexeme)>, ParseError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn or(&mut self) -> Result<Query, ParseError> {
        let mut parts = Vec::new();
        loop {
            match self.and()? {
                Query::Or(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !matches!(self.next, Some((_, Lexeme::Or))) {
                return Ok(joined(parts, Query::Or));
            }
            self.advance()?;
        }
    }

    fn and(&mut self) -> Result<Query, ParseError> {
        let mut parts = Vec::new();
        loop {
            match self.not()? {
                Query::And(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            match self.next {
                Some((_, Lexeme::And)) => drop(self.advance()?),
                None | Some((_, Lexeme::Or | Lexeme::Close)) => return Ok(joined(parts, Query::And)),
                _ => {}
            }
        }
    }

    fn not(&mut self) -> Result<Query, ParseError> {
        match self.advance()? {
            Some((at, Lexeme::Not)) => self.nested(at, |parser| Ok(Query::Not(Box::new(parser.not()?)))),
            Some((at, Lexeme::Open)) => self.nested(at, |parser| {
                let inner = parser.or()?;
                match parser.advance()? {
                    Some((_, Lexeme::Close)) => Ok(inner),
                    _ => Err(ParseError::new(at, "this parenthesis is not closed")),
                }
            }),
            Some((at, Lexeme::Text { field, bytes })) => self.term(at, field, bytes),
            Some((at, Lexeme::And | Lexeme::Or | Lexeme::Close)) => {
                Err(ParseError::new(at, "a word is missing before this"))
            }
            None => Err(ParseError::new(self.end, "a word is missing at the end")),
        }
    }

    fn nested(
        &mut self,
        at: usize,
        parse: impl FnOnce(&mut Self) -> Result<Query, ParseError>,
    ) -> Result<Query, ParseError> {
        if self.depth == DEPTH_MAX {
            return Err(ParseError::new(at, format!("a query is nested at most {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let query = parse(self)?;
        self.depth -= 1;
        Ok(query)
    }

    fn term(&mut self, at: usize, field: Field, bytes: Vec<u8>) -> Result<Query, ParseError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(ParseError::new(at, format!("a query has at most {TERMS_MAX} words and phrases")));
        }
        Ok(match field {
            Field::Value => Query::Value(phrase(at, &bytes)?),
            Field::Key => Query::Key(bytes.into()),
            Field::Header(name) => Query::Header { name, phrase: phrase(at, &bytes)? },
        })
    }
}

fn joined(mut parts: Vec<Query>, join: impl FnOnce(Vec<Query>) -> Query) -> Query {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => Query::All,
    }
}

/// The words of a text, none of them left out.
fn phrase(at: usize, text: &[u8]) -> Result<Phrase, ParseError> {
    let mut found = Vec::new();
    for token in tokens(text) {
        if token.position != found.len() {
            break;
        }
        found.push(token.text.into_owned());
    }
    let words = text.utf8_chunks().flat_map(|chunk| chunk.valid().split(|c: char| !c.is_alphanumeric()));
    if words.filter(|word| !word.is_empty()).count() > found.len() {
        return Err(ParseError::new(at, format!("a word has at most {TOKEN_BYTES_MAX} bytes")));
    }
    if found.is_empty() {
        return Err(ParseError::new(at, "there is no letter or digit to look for"));
    }
    Ok(Phrase { tokens: found })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn printed(query: &str) -> String {
        parse(query).unwrap().to_string()
    }

    fn error(query: &str) -> (usize, String) {
        let error = parse(query).unwrap_err();
        (error.position, error.message)
    }

    #[test]
    fn words_are_anded_and_or_binds_weaker() {
        assert_eq!(parse(" \t"), Ok(Query::All));
        assert_eq!(printed("Error"), r#""error""#);
        assert_eq!(printed("a b"), r#""a" AND "b""#);
        assert_eq!(printed("a AND b c OR d e"), r#"("a" AND "b" AND "c") OR ("d" AND "e")"#);
        assert_eq!(printed("a (b OR c)"), r#""a" AND ("b" OR "c")"#);
        assert_eq!(printed("(a b) (c)"), r#""a" AND "b" AND "c""#);
        assert_eq!(printed("NOT a b"), r#"NOT "a" AND "b""#);
        assert_eq!(printed("a NOT (b c)"), r#""a" AND NOT ("b" AND "c")"#);
        assert_eq!(printed("NOT NOT a"), r#"NOT NOT "a""#);
        assert_eq!(printed("not and or"), r#""not" AND "and" AND "or""#);
        assert_eq!(printed("\"AND\""), r#""and""#);
    }

    #[test]
    fn what_the_analysis_splits_is_a_phrase() {
        assert_eq!(printed("blk_12 10.0.0.1"), r#""blk 12" AND "10 0 0 1""#);
        assert_eq!(printed("level:ERROR http://x/y"), r#""level error" AND "http x y""#);
        assert_eq!(printed(r#""Disk \"full\" \o/" "#), r#""disk full o""#);
        assert_eq!(printed("f(x)"), r#""f" AND "x""#);
    }

    #[test]
    fn keys_and_headers_are_fields() {
        assert_eq!(parse("key:Order-7:x"), Ok(Query::Key("Order-7:x".into())));
        assert_eq!(parse(r#"key:"a \"b\" \\ \n""#), Ok(Query::Key(r#"a "b" \ \n"#.into())));
        assert_eq!(parse(r#"key:"\x00\xFFz""#), Ok(Query::Key(Bytes::from_static(b"\0\xffz"))));
        assert_eq!(parse(r#"key:"""#), Ok(Query::Key(Bytes::new())));
        assert_eq!(printed("headers.Trace.Id:ab-1"), r#"headers."Trace.Id":"ab 1""#);
        assert_eq!(printed(r#"headers."a:b":"c d" e"#), r#"headers."a:b":"c d" AND "e""#);
        assert_eq!(printed("headers.a"), r#""headers a""#);
        assert_eq!(printed("headers.:a monkey:a"), r#""headers a" AND "monkey a""#);
    }

    #[test]
    fn errors_name_the_position() {
        assert_eq!(error("a (b").0, 2);
        assert_eq!(error("a b)").0, 3);
        assert_eq!(error("a ()").0, 3);
        assert_eq!(error("a OR").0, 4);
        assert_eq!(error("ä AND OR b").0, 7);
        assert_eq!(error("a \"b").0, 2);
        assert_eq!(error("a key:").0, 6);
        assert_eq!(error("a headers.x: b").0, 12);
        assert_eq!(error("a --"), (2, "there is no letter or digit to look for".into()));
        assert_eq!(error("NOT").0, 3);
    }

    #[test]
    fn limits_are_errors() {
        let word = "x".repeat(TOKEN_BYTES_MAX);
        assert!(parse(&word).is_ok());
        assert_eq!(error(&format!("a {word}x")), (2, "a word has at most 255 bytes".into()));
        assert_eq!(error(&format!("a \"b {word}x\"")).0, 2);
        assert!(parse(&("(".repeat(DEPTH_MAX) + "a" + &")".repeat(DEPTH_MAX))).is_ok());
        assert_eq!(error(&("(".repeat(DEPTH_MAX + 1) + "a")).0, DEPTH_MAX);
        assert_eq!(error(&"NOT ".repeat(1_000)).0, 4 * DEPTH_MAX);
        assert!(parse(&"a ".repeat(TERMS_MAX)).is_ok());
        assert_eq!(error(&"a ".repeat(TERMS_MAX + 1)).0, 2 * TERMS_MAX);
        assert_eq!(error(&"ä".repeat(QUERY_BYTES_MAX)).0, QUERY_BYTES_MAX);
    }

    fn query() -> impl Strategy<Value = Query> {
        let phrase = || prop::collection::vec("[a-z0-9σø東]{1,5}", 1..3).prop_map(|tokens| Phrase { tokens });
        let leaf = prop_oneof![
            phrase().prop_map(Query::Value),
            any::<Vec<u8>>().prop_map(|key| Query::Key(key.into())),
            (".{0,8}", phrase()).prop_map(|(name, phrase)| Query::Header { name, phrase }),
        ];
        leaf.prop_recursive(5, 40, 4, |inner| {
            let parts = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                parts.clone().prop_map(and),
                parts.prop_map(or),
                inner.prop_map(|part| Query::Not(Box::new(part))),
            ]
        })
    }

    fn and(parts: Vec<Query>) -> Query {
        Query::And(
            parts.into_iter().flat_map(|part| if let Query::And(inner) = part { inner } else { vec![part] }).collect(),
        )
    }

    fn or(parts: Vec<Query>) -> Query {
        Query::Or(
            parts.into_iter().flat_map(|part| if let Query::Or(inner) = part { inner } else { vec![part] }).collect(),
        )
    }

    proptest! {
        #[test]
        fn a_printed_query_parses_to_itself(query in query()) {
            prop_assert_eq!(parse(&query.to_string()), Ok(query));
        }

        #[test]
        fn any_text_is_a_query_or_an_error_within_it(text in ".{0,80}") {
            fuzz_parse(&text);
        }

        #[test]
        fn anything_made_of_the_language_is_a_query_or_an_error_within_it(
            pieces in prop::collection::vec(prop::sample::select(&[
                "(", ")", " ", "AND", "OR", "NOT", "a", "Bc", "\"", "\\", "\\x4f", "key:", "headers.", ":", "İ", "7.1", "-", "\u{3000}",
            ][..]), 0..24),
        ) {
            fuzz_parse(&pieces.concat());
        }
    }
}
