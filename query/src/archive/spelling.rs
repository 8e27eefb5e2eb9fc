//! How a word may be spelled in an archive whose analysis kept fewer words apart, or more, than today's.

use chronik_format::search::folding_to_start_of;
use tantivy_fst::Automaton;

/// Words that are longer could have been left out by an older analysis, whose words had more bytes.
const TOKEN_BYTES_MAX: usize = 64;

/// The terms that may stand for a word: an automaton over their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpellingAutomaton {
    /// From each node by a byte within bounds to another.
    edges: Vec<Vec<(u8, u8, usize)>>,
    start: Vec<usize>,
    end: usize,
    /// Whatever follows from here is accepted.
    anything: usize,
}

impl SpellingAutomaton {
    /// Of a token of the current analysis, behind `prefix`, in an archive of lower-cased words. With `escapes` the
    /// words were those of undecoded JSON: the letter of an escape like `\n` is glued to the word that follows, and a
    /// word with a `\uXXXX` in it or before it has a part that begins with `uXXXX`, of which nothing more is known.
    /// `None` if the word may be left out of the archive for its length.
    pub(super) fn new(prefix: &[u8], token: &str, escapes: bool) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        // A node before each byte of the token, and one behind it; those between characters are what variants lead to.
        let mut spelling = Self {
            edges: vec![Vec::new(); token.len() + 2],
            start: vec![0],
            end: token.len(),
            anything: token.len() + 1,
        };
        for (at, c) in token.char_indices() {
            let rest = &token[at..];
            let mut buffer = [0; 4];
            spelling.path(at, c.encode_utf8(&mut buffer).as_bytes(), at + c.len_utf8());
            for (variant, length) in folding_to_start_of(rest) {
                spelling.path(at, variant.encode_utf8(&mut buffer).as_bytes(), at + length);
            }
        }
        if escapes {
            let before = spelling.node();
            for letter in *b"bfnrt" {
                spelling.edges[before].push((letter, letter, 0));
            }
            let mut node = spelling.node();
            spelling.edges[before].push((b'u', b'u', node));
            for digit in 0..4 {
                let next = if digit < 3 { spelling.node() } else { spelling.anything };
                spelling.edges[node].extend([(b'0', b'9', next), (b'a', b'f', next)]);
                node = next;
            }
            spelling.start.push(before);
        }
        if !prefix.is_empty() {
            let before = spelling.node();
            for start in spelling.start.split_off(0) {
                spelling.path(before, prefix, start);
            }
            spelling.start.push(before);
        }
        Some(spelling)
    }

    fn node(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// Leads from one node to another by these bytes; at least one.
    fn path(&mut self, from: usize, bytes: &[u8], to: usize) {
        let mut node = from;
        for (left, byte) in (0..bytes.len()).rev().zip(bytes) {
            let next = if left == 0 { to } else { self.node() };
            self.edges[node].push((*byte, *byte, next));
            node = next;
        }
    }
}

/// A state is the nodes that it may be at, ascending.
impl Automaton for SpellingAutomaton {
    type State = Vec<usize>;

    fn start(&self) -> Vec<usize> {
        self.start.clone()
    }

    fn is_match(&self, state: &Vec<usize>) -> bool {
        state.contains(&self.end) || self.will_always_match(state)
    }

    fn can_match(&self, state: &Vec<usize>) -> bool {
        !state.is_empty()
    }

    fn will_always_match(&self, state: &Vec<usize>) -> bool {
        state.contains(&self.anything)
    }

    fn accept(&self, state: &Vec<usize>, byte: u8) -> Vec<usize> {
        if self.will_always_match(state) {
            return vec![self.anything];
        }
        let edges = state.iter().flat_map(|node| &self.edges[*node]);
        let mut next: Vec<_> =
            edges.filter(|(low, high, _)| (*low..=*high).contains(&byte)).map(|(_, _, node)| *node).collect();
        next.sort_unstable();
        next.dedup();
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chronik_format::job::ValueFormat;
    use chronik_format::search::value_words;
    use proptest::prelude::*;

    use super::*;

    fn accepts(spelling: &SpellingAutomaton, term: &[u8]) -> bool {
        let state = term.iter().fold(spelling.start(), |state, byte| spelling.accept(&state, *byte));
        spelling.is_match(&state)
    }

    /// The words that archives had before: lower-cased, of the value as it stands.
    fn lower_cased(value: &str) -> Vec<String> {
        let words = value.split(|c: char| !c.is_alphanumeric());
        let lower = |word: &str| word.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect();
        words.map(lower).filter(|word: &String| !word.is_empty() && word.len() <= 255).collect()
    }

    #[test]
    fn a_word_is_found_by_what_an_older_analysis_made_of_it() {
        for (token, terms, others) in [
            (
                "caused",
                &["caused", "ncaused", "u00e9caused", "u00e9"][..],
                &["caused1", "xcaused", "nncaused", "cause", "u00"][..],
            ),
            ("zürich", &["zürich", "tzürich", "u00fcrich"], &["zurich", "z"]),
            ("strasse", &["strasse", "straße", "ſtraße"], &["strase", "straßse"]),
            ("σίσυφοσ", &["σίσυφος", "σίσυφοσ"], &["σίσυφο"]),
        ] {
            let spelling = SpellingAutomaton::new(b"", token, true).unwrap();
            for term in terms {
                assert!(accepts(&spelling, term.as_bytes()), "{token} {term}");
            }
            for term in others {
                assert!(!accepts(&spelling, term.as_bytes()), "{token} {term}");
            }
        }
        let header = SpellingAutomaton::new(b"name\xff", "as", false).unwrap();
        assert!(accepts(&header, b"name\xffas") && accepts(&header, &[b"name\xff", "aſ".as_bytes()].concat()));
        assert!(!accepts(&header, b"as") && !accepts(&header, b"name\xffnas") && !accepts(&header, b"name\xff"));
        assert!(SpellingAutomaton::new(b"", &"x".repeat(65), false).is_none());
    }

    proptest! {
        #[test]
        fn no_word_is_missed(pieces in prop::collection::vec(prop::sample::select(&[
            "a", "S", "ß", "ẞ", "ς", "Σ", "ı", "İ", "ǰ", "ﬃ", "ŉ", "K", "ΐ", "7", " ", ".", "\\n", "\\t", "\\u00df", "\\u0073",
            "\\u0020", "\\ud835\\udc00", "\\ud800", "\\\\", "\\\"", "\\/", "n", "u", "f", "i", "\",\"", "\u{345}", "ǆ", "ᾼ",
        ][..]), 0..10)) {
            let value = format!("[\"{}\"]", pieces.concat());
            for (format, escapes) in [(ValueFormat::Auto, true), (ValueFormat::Text, false)] {
                let terms = lower_cased(&value);
                for token in value_words(value.as_bytes(), format) {
                    let spelling = SpellingAutomaton::new(b"", &token.text, escapes).unwrap();
                    prop_assert!(terms.iter().any(|term| accepts(&spelling, term.as_bytes())), "{} in {}", token.text, value);
                }
            }
        }
    }
}
