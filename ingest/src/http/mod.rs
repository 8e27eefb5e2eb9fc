//! The broker's part of the HTTP interface.

pub mod status;
pub mod tail;
