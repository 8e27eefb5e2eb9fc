//! The product's text analysis as Tantivy sees it.

use chronik_core::search::{Tokens, tokens};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Gives the tokens of [`tokens`], each at its position.
#[derive(Clone, Default)]
pub(crate) struct Words {
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream {
            words: tokens(text),
            token: &mut self.token,
        }
    }
}

pub(crate) struct WordStream<'a> {
    words: Tokens<'a>,
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
