//! The operator's tool, one command a file.

pub mod bucket;
pub mod consume;
pub mod inspect;
pub mod produce;
pub mod seal;
pub mod search;
pub mod status;
pub mod topic;
pub mod version;
