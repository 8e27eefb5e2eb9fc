//! The query language: one analysis, one syntax tree, one exact matcher.
