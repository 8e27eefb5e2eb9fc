//! Any bytes as a checkpoint, also with checksums that fit.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::checkpoint::fuzz_checkpoint(bytes));
