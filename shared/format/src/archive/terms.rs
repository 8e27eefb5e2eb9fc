//! How a record becomes terms: what the indexer writes and a search asks for.
//!
//! | field | kind | terms of a record |
//! |---|---|---|
//! | `key` | bytes | [`key_term`] of the key; none if it is null |
//! | `value` | text | the tokens of the value's text; none if it is null, or values are not searched |
//! | `headers` | bytes | [`header_term`] of each token of each header that has a value |
//!
//! A term is *exact* if only what it was asked for has it; others select too much, never too little. Every field is
//! indexed without frequencies and norms, `value` with positions if the topic asks for it; nothing is stored.

/// The whole key.
pub const KEY: &str = "key";
/// The words of the value.
pub const VALUE: &str = "value";
/// The words of the headers.
pub const HEADERS: &str = "headers";

/// Bytes of a key that its term holds.
const KEY_BYTES: usize = 1024;
/// Bytes of a header's name that its terms hold.
const NAME_BYTES: usize = 255;
/// Is not part of a token, which is UTF-8.
const BEFORE_TOKEN: u8 = 0xff;

const WHOLE: u8 = 0;
const CUT: u8 = 1;

/// A term, and whether only the key or header asked for has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTerm {
    /// The term.
    pub bytes: Vec<u8>,
    /// Whether the term stands for one key, or for one name and word.
    pub exact: bool,
}

/// `0, key`, or `1, its first 1024 bytes` of a longer one.
pub fn key_term(key: &[u8]) -> RecordTerm {
    let exact = key.len() <= KEY_BYTES;
    let mut bytes = vec![if exact { WHOLE } else { CUT }];
    bytes.extend_from_slice(&key[..key.len().min(KEY_BYTES)]);
    RecordTerm { bytes, exact }
}

/// `name, 0xff, token`, or `its first 255 bytes, 0xff, 0xff, token` of a longer name. The last 0xff ends the name, so
/// no two names share a term unless both are cut.
pub fn header_term(name: &[u8], token: &str) -> RecordTerm {
    let exact = name.len() <= NAME_BYTES;
    let mut bytes = Vec::with_capacity(name.len().min(NAME_BYTES) + token.len() + 2);
    bytes.extend_from_slice(&name[..name.len().min(NAME_BYTES)]);
    if !exact {
        bytes.push(BEFORE_TOKEN);
    }
    bytes.push(BEFORE_TOKEN);
    bytes.extend_from_slice(token.as_bytes());
    RecordTerm { bytes, exact }
}
