//! Any bytes as a message set of magic 0 or 1, made a batch, and messages again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chronik_format::batch::fuzz_message_set(bytes));
