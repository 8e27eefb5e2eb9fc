use std::fmt;

use bytes::Bytes;

/// Words side by side, as [`tokens`](super::tokens) gives them; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phrase {
    /// In their order.
    pub tokens: Vec<String>,
}

/// What a record has to be like. [`parse()`](super::parse()) gives `And` and `Or` at least two parts and never one of
/// the same kind as a part of itself; `All` stands alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Any record.
    All,
    /// The value contains the words, side by side.
    Value(Phrase),
    /// The key is exactly this.
    Key(Bytes),
    /// One of the headers of this name, byte for byte, contains the words, side by side.
    Header {
        /// The header's name.
        name: String,
        /// The words of its value.
        phrase: Phrase,
    },
    /// All of these.
    And(Vec<Query>),
    /// At least one of these.
    Or(Vec<Query>),
    /// Not this.
    Not(Box<Query>),
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.tokens.join(" "))
    }
}

/// The query in its own language; parsing it again gives the same tree.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Value(phrase) => write!(f, "{phrase}"),
            Self::Key(key) => {
                f.write_str("key:")?;
                write_quoted(f, key)
            }
            Self::Header { name, phrase } => {
                f.write_str("headers.")?;
                write_quoted(f, name.as_bytes())?;
                write!(f, ":{phrase}")
            }
            Self::And(parts) => write_joined(f, parts, " AND "),
            Self::Or(parts) => write_joined(f, parts, " OR "),
            Self::Not(part) => {
                f.write_str("NOT ")?;
                write_part(f, part)
            }
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, parts: &[Query], between: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        write_part(f, part)?;
    }
    Ok(())
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &Query) -> fmt::Result {
    match part {
        Query::And(_) | Query::Or(_) => write!(f, "({part})"),
        _ => write!(f, "{part}"),
    }
}

/// `\"`, `\\` and, for what is not UTF-8, `\xHH`.
fn write_quoted(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("\"")?;
    for chunk in bytes.utf8_chunks() {
        f.write_str(&chunk.valid().replace('\\', "\\\\").replace('"', "\\\""))?;
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    f.write_str("\"")
}
