//! Any bytes as the sections of a lane's state.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_ingest::state::checkpoint::fuzz_state(bytes));
