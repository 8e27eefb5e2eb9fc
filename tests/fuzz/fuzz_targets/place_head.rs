//! Any bytes as the head of a local checkpoint or of the mark beside the log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_ingest::disk::fuzz_head(bytes));
