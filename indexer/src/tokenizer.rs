//! The product's text analysis as Tantivy sees it.

use chronik_format::job::ValueFormat;
use chronik_format::search::{self, value_words};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Gives the words of [`value_words`], each at its position.
#[derive(Clone)]
pub(crate) struct WordTokenizer {
    format: ValueFormat,
    token: Token,
}

impl WordTokenizer {
    pub(crate) fn new(format: ValueFormat) -> Self {
        Self { format, token: Token::default() }
    }
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { words: value_words(text.as_bytes(), self.format), token: &mut self.token }
    }
}

pub(crate) struct WordStream<'a> {
    words: search::ValueWords<'a>,
    token: &'a mut Token,
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else {
            return false;
        };
        self.token.text.clear();
        self.token.text.push_str(&word.text);
        self.token.offset_from = word.from;
        self.token.offset_to = word.to;
        self.token.position = word.position;
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
