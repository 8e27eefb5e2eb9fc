//! Any bytes as the parts of a catalog.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::catalog::fuzz_catalog(bytes));
