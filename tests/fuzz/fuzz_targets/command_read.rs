//! Any bytes as the commands of a frame, written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_ingest::state::command::fuzz_commands(bytes));
