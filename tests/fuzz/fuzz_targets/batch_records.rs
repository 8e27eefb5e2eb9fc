//! Any bytes as record batches, opened to their last record; a batch spans the times of its records.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    chronik_format::batch::fuzz_records(bytes);
    chronik_format::batch::fuzz_time_span(bytes);
});
