//! Any bytes as the JSON documents of data directory and bucket.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    chronik_ingest::data_dir::fuzz_identity(bytes);
    chronik_ingest::data_dir::fuzz_writers(bytes);
    chronik_ingest::ownership::claim::fuzz_documents(bytes);
});
