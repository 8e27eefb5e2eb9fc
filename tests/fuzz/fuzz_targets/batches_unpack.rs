//! Any bytes as the answer of a broker's tail or of a query worker: what comes out was checked.
#![no_main]

use bytes::Bytes;
use chronik_format::batch::{pack, unpack, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batches) = unpack(Bytes::copy_from_slice(bytes), 0) {
        assert!(batches.iter().all(|batch| verify(batch).is_ok()));
        assert_eq!(pack(&batches), bytes);
    }
});
