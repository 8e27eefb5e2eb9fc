//! Any bytes as a Kafka request: header, body, and the body written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let _ = chronik_wire::exercise::request(frame);
});
