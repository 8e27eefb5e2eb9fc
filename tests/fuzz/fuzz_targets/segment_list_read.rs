//! Any bytes as a list of segments.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::segment_list::fuzz_segment_list(bytes));
