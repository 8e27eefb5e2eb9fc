//! Any bytes as the tables of an archive, as they are packed and as they are within.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::archive::fuzz_archive(bytes));
