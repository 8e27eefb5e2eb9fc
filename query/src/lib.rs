//! Search and cold fetch over HTTP, straight from the bucket.

mod archive;
