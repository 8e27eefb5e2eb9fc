//! Cuts a query's text into [`Lexeme`]s.

use super::ParseError;

/// A piece of a query and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
    Open,
    Close,
    And,
    Or,
    Not,
    /// Text to look for.
    Text {
        field: Field,
        bytes: Vec<u8>,
    },
}

/// Where to look for a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Value,
    Key,
    Header(String),
}

pub(super) struct Lexer<'a> {
    query: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self { query, at: 0 }
    }

    /// The next piece and where it starts; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Lexeme)>, ParseError> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(None);
        };
        let lexeme = match first {
            '(' => self.take(1, Lexeme::Open),
            ')' => self.take(1, Lexeme::Close),
            '"' => Lexeme::Text { field: Field::Value, bytes: self.quoted(false)? },
            _ => self.word()?,
        };
        Ok(Some((at, lexeme)))
    }

    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    fn take(&mut self, length: usize, lexeme: Lexeme) -> Lexeme {
        self.at += length;
        lexeme
    }

    fn word(&mut self) -> Result<Lexeme, ParseError> {
        if self.skip("key:") {
            return Ok(Lexeme::Text { field: Field::Key, bytes: self.operand("key:", true)? });
        }
        if let Some(name) = self.header_name()? {
            return Ok(Lexeme::Text { field: Field::Header(name), bytes: self.operand("a header's name", false)? });
        }
        Ok(match self.bare() {
            "AND" => Lexeme::And,
            "OR" => Lexeme::Or,
            "NOT" => Lexeme::Not,
            word => Lexeme::Text { field: Field::Value, bytes: word.into() },
        })
    }

    /// `headers.NAME:` or `headers."NAME":`; anything else is not a field and nothing is consumed.
    fn header_name(&mut self) -> Result<Option<String>, ParseError> {
        let start = self.at;
        if !self.skip("headers.") {
            return Ok(None);
        }
        let name = if self.rest().starts_with('"') {
            let from = self.at;
            let name = self.quoted(false)?;
            String::from_utf8(name).map_err(|_| ParseError::new(from, "a header's name is UTF-8"))?
        } else {
            let word = self.peek_bare();
            let name = word.find(':').map_or("", |colon| &word[..colon]);
            self.at += name.len();
            name.to_owned()
        };
        let quoted = self.query[start..self.at].ends_with('"');
        if (name.is_empty() && !quoted) || !self.skip(":") {
            self.at = start;
            return Ok(None);
        }
        Ok(Some(name))
    }

    /// What stands behind a field: a quoted text, or a word up to the next space, parenthesis or quote.
    fn operand(&mut self, field: &str, hex: bool) -> Result<Vec<u8>, ParseError> {
        if self.rest().starts_with('"') {
            return self.quoted(hex);
        }
        match self.bare() {
            "" => Err(ParseError::new(self.at, format!("{field} is followed by nothing to look for"))),
            word => Ok(word.into()),
        }
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn peek_bare(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| c.is_whitespace() || "()\"".contains(c)).unwrap_or(rest.len())]
    }

    fn bare(&mut self) -> &'a str {
        let word = self.peek_bare();
        self.at += word.len();
        word
    }

    /// A text in quotes. `\"` and `\\` stand for themselves without the backslash, and with `hex` `\xHH` for a byte;
    /// any other backslash is one.
    fn quoted(&mut self, hex: bool) -> Result<Vec<u8>, ParseError> {
        let start = self.at;
        let text = &self.query.as_bytes()[start + 1..];
        let mut bytes = Vec::new();
        let mut at = 0;
        loop {
            match text.get(at..).unwrap_or_default() {
                [] => return Err(ParseError::new(start, "this quote is not closed")),
                [b'"', ..] => break,
                [b'\\', byte @ (b'"' | b'\\'), ..] => {
                    bytes.push(*byte);
                    at += 2;
                }
                [b'\\', b'x', high, low, ..] if hex && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                    at += 4;
                }
                [byte, ..] => {
                    bytes.push(*byte);
                    at += 1;
                }
            }
        }
        self.at = start + 1 + at + 1;
        Ok(bytes)
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
