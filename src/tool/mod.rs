//! The operator's tool, one command a file or folder.

pub mod bucket;
pub mod compact;
pub mod consume;
pub mod group;
pub mod inspect;
pub mod produce;
pub mod seal;
pub mod search;
pub mod status;
pub mod topic;
mod values;
pub mod version;
