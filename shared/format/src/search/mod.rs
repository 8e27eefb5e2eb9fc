//! The query language: one analysis, one syntax tree, one exact matcher.
//!
//! [`parse()`] turns a query's text into a [`Query`]. A [`RecordMatcher`] decides of any one record whether it is
//! meant, and has the last word: archives may propose more records, never fewer. Both sides see values through
//! [`value_words`] and headers through [`tokens`], and an archive records [`ANALYSIS`], so that one built with another
//! analysis is asked in its own words.

mod analysis;
mod ast;
mod error;
mod lexer;
mod matcher;
mod parse;
mod words;

pub use analysis::{ANALYSIS, ANALYSIS_LOWER_CASED, TOKEN_BYTES_MAX, Token, Tokens, folding_to_start_of, tokens};
pub use ast::{Phrase, Query};
pub use error::ParseError;
pub use matcher::{HIGHLIGHTS_MAX, RecordMatcher};
pub use parse::{DEPTH_MAX, QUERY_BYTES_MAX, TERMS_MAX, fuzz_parse, parse};
pub use words::{JsonWords, ValueWords, value_words};
