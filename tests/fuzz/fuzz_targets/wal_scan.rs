//! Any bytes as a file of the write-ahead log, read to its last good frame.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    chronik_ingest::wal::wal_scan(bytes);
});
