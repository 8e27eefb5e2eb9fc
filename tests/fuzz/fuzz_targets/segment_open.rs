//! Any bytes as a segment, read to its last batch.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::segment::fuzz_open(bytes));
