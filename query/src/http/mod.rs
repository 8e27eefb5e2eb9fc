//! What goes over the wire.

mod records;
mod render;
mod search;

pub(crate) use records::records;
pub(crate) use search::{search_get, search_post};
