//! Any text as a query, printed and parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| chronik_format::search::fuzz_parse(query));
