//! How text becomes tokens, for records and queries alike.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::Utf8Chunks;
use std::sync::LazyLock;

/// Names this analysis in archives; another definition of [`tokens`] or [`value_words`](super::value_words) gets
/// another name.
pub const ANALYSIS: &str = "words-2";
/// Names the analysis before this one: words were lower-cased, not folded (ς was not σ, ß not ss), and those of JSON
/// were the words of its text, escapes and all.
pub const ANALYSIS_LOWER_CASED: &str = "words-1";

/// Bytes that a token may have, folded.
pub const TOKEN_BYTES_MAX: usize = 255;

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Folded; borrowed from the text if folding changes nothing.
    pub text: Cow<'a, str>,
    /// Where it starts in the text, bytes.
    pub from: usize,
    /// Where it ends in the text, bytes, exclusive.
    pub to: usize,
    /// Greater than that of the word before it, by one if they stand side by side; phrases are words in consecutive
    /// positions.
    pub position: usize,
}

/// The words of `text`, which is read as UTF-8:
/// - a word is a longest run of characters that are alphanumeric (Unicode: Alphabetic or of a numeric category);
///   everything else separates, bytes that are not UTF-8 too;
/// - its case is folded character by character, without regard to neighbours or language: each becomes the lower case
///   of the
///   upper case of its lower case, as Unicode maps them. So Σ, σ and ς are σ, ß and ẞ are ss, the Kelvin sign is k, and I, İ, i
///   and ı are i: of several characters (İ, ΐ) only the alphanumeric ones count. Folding a token's text gives the token again;
/// - a word of more than [`TOKEN_BYTES_MAX`] bytes, folded, is left out but counts as a position.
pub fn tokens<T: AsRef<[u8]> + ?Sized>(text: &T) -> Tokens<'_> {
    Tokens { chunks: text.as_ref().utf8_chunks(), valid: "", at: 0, behind_valid: 0, position: 0 }
}

/// See [`tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    chunks: Utf8Chunks<'a>,
    /// What is left of the current stretch of valid UTF-8.
    valid: &'a str,
    /// Where `valid` starts in the text.
    at: usize,
    /// Invalid bytes that follow `valid`.
    behind_valid: usize,
    position: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let Some(start) = self.valid.find(char::is_alphanumeric) else {
                self.next_chunk()?;
                continue;
            };
            let word = &self.valid[start..];
            let length = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
            let (word, rest) = word.split_at(length);
            let from = self.at + start;
            self.at = from + length;
            self.valid = rest;
            let position = self.position;
            self.position += 1;
            if let Some(text) = folded(word) {
                return Some(Token { text, from, to: from + length, position });
            }
        }
    }
}

impl Tokens<'_> {
    /// How many words came, those that are left out included.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn next_chunk(&mut self) -> Option<()> {
        self.at += self.valid.len() + self.behind_valid;
        let chunk = self.chunks.next()?;
        self.valid = chunk.valid();
        self.behind_valid = chunk.invalid().len();
        Some(())
    }
}

/// `None` if the word is too long.
fn folded(word: &str) -> Option<Cow<'_, str>> {
    if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return (word.len() <= TOKEN_BYTES_MAX).then_some(Cow::Borrowed(word));
    }
    let mut folding = WordFolding::default();
    word.chars().for_each(|c| folding.push(c));
    folding.finish().map(Cow::Owned)
}

/// A word that is being folded.
#[derive(Debug, Default)]
pub(super) struct WordFolding {
    text: String,
}

impl WordFolding {
    pub(super) fn push(&mut self, c: char) {
        match c {
            _ if self.text.len() > TOKEN_BYTES_MAX => {}
            c if c.is_ascii() => self.text.push(c.to_ascii_lowercase()),
            c => self.text.extend(fold(c)),
        }
    }

    /// The folded word; `None` if it is too long.
    pub(super) fn finish(self) -> Option<String> {
        (self.text.len() <= TOKEN_BYTES_MAX).then_some(self.text)
    }
}

fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric())
}

/// The lower-case letters that fold to something else, by what they fold to.
static VARIANTS: LazyLock<HashMap<String, Vec<char>>> = LazyLock::new(|| {
    let mut variants: HashMap<String, Vec<char>> = HashMap::new();
    for c in ('\u{80}'..=char::MAX).filter(|c| c.is_alphanumeric() && c.to_lowercase().eq([*c])) {
        if !fold(c).eq([c]) {
            variants.entry(fold(c).collect()).or_default().push(c);
        }
    }
    variants
});

/// The lower-case letters that fold to the beginning of a folded text without being it, each with the bytes of that
/// beginning.
pub fn folding_to_start_of(text: &str) -> impl Iterator<Item = (char, usize)> {
    const CHARACTERS_MAX: usize = 3;
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).take(CHARACTERS_MAX);
    ends.flat_map(|end| {
        let variants = VARIANTS.get(&text[..end]).map_or(&[][..], Vec::as_slice);
        variants.iter().map(move |variant| (*variant, end))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &[u8]) -> Vec<String> {
        tokens(text).map(|token| token.text.into_owned()).collect()
    }

    #[test]
    fn words_of_log_lines() {
        assert_eq!(words(b"blk_12 at 10.0.0.1: FAILED"), ["blk", "12", "at", "10", "0", "0", "1", "failed"]);
        assert_eq!(
            words("GRÜSSE aus Köln, ΣΊΣΥΦΟΣ, İstanbul, 東京".as_bytes()),
            ["grüsse", "aus", "köln", "σίσυφοσ", "istanbul", "東京"]
        );
        assert_eq!(
            words("σίσυφος Straße STRASSE STRAẞE \u{212a} ısı ISI ﬃ".as_bytes()),
            ["σίσυφοσ", "strasse", "strasse", "strasse", "k", "isi", "isi", "ffi"]
        );
        assert_eq!(words(b"one\xfftwo\xe2\x82three\xf0"), ["one", "two", "three"]);
        assert!(words(b" -- \xff").is_empty());
    }

    #[test]
    fn a_word_that_is_too_long_is_left_out_and_keeps_its_place() {
        let (fits, too_long) = ("x".repeat(TOKEN_BYTES_MAX), "X".repeat(TOKEN_BYTES_MAX + 1));
        let text = format!("a {too_long} {fits} b");
        let found: Vec<_> = tokens(&text).map(|token| (token.text.len(), token.position)).collect();
        assert_eq!(found, [(1, 0), (TOKEN_BYTES_MAX, 2), (1, 3)]);
        let found = tokens(&too_long.to_lowercase()).count();
        assert_eq!(found, 0);
    }

    #[test]
    fn every_character_is_a_separator_or_its_own_analysis() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let first = words(c.to_string().as_bytes());
            assert_eq!(first.len(), usize::from(c.is_alphanumeric()), "{c:?}");
            if let Some(word) = first.first() {
                assert_eq!(&words(word.as_bytes()), &first, "{c:?}");
            }
        }
    }

    #[test]
    fn letters_that_fold_to_others_are_known() {
        let found: Vec<_> = folding_to_start_of("ssx").collect();
        assert_eq!(found, [('ſ', 1), ('ß', 2)]);
        assert_eq!(folding_to_start_of("σ").collect::<Vec<_>>(), [('ς', "σ".len())]);
        assert_eq!(VARIANTS.keys().map(|folded| folded.chars().count()).max(), Some(3));
        for c in (0..=0x10ffff).filter_map(char::from_u32).filter(|c| c.is_alphanumeric()) {
            let lower_cased = c.to_lowercase().filter(|c| c.is_alphanumeric());
            assert!(lower_cased.flat_map(fold).eq(fold(c)), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn tokens_lie_where_they_say(pieces in prop::collection::vec(prop_oneof![any::<Vec<u8>>(), ".{0,12}".prop_map(String::into_bytes)], 0..6)) {
            let text = pieces.concat();
            let mut end = 0;
            for (at, token) in tokens(&text).enumerate() {
                prop_assert!(token.from >= end && token.from < token.to);
                end = token.to;
                prop_assert_eq!(token.position, at);
                prop_assert_eq!(words(&text[token.from..token.to]), [token.text.to_string()]);
                prop_assert_eq!(words(token.text.as_bytes()), [token.text.to_string()]);
            }
        }
    }
}
