//! The query language: one analysis, one syntax tree, one exact matcher.
//!
//! [`parse()`] turns a query's text into a [`Query`]. A [`Matcher`] decides of any one record whether it is meant, and has the last word:
//! archives may propose more records, never fewer. Both sides see text through [`tokens`], and an archive records
//! [`ANALYSIS`], so that one built with another analysis is recognised.

mod analysis;
mod ast;
mod error;
mod lexer;
mod matcher;
mod parse;

pub use analysis::{ANALYSIS, TOKEN_BYTES_MAX, Token, Tokens, tokens};
pub use ast::{Phrase, Query};
pub use error::ParseError;
pub use matcher::{HIGHLIGHTS_MAX, Matcher};
pub use parse::{DEPTH_MAX, QUERY_BYTES_MAX, TERMS_MAX, fuzz_parse, parse};
