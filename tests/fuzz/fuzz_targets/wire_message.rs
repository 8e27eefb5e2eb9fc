//! Any bytes as request and as response of the API that CHRONIK_FUZZ_API names: version, then body, written again.
//! Without it, names all that there are.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use chronik_wire::{ApiKey, exercise};
use libfuzzer_sys::fuzz_target;

/// Some beyond those that there are.
const VERSIONS: u8 = 20;

static API: LazyLock<ApiKey> = LazyLock::new(|| {
    let named = std::env::var("CHRONIK_FUZZ_API").unwrap_or_default();
    let api = exercise::APIS.iter().find(|api| api.to_string() == named);
    *api.unwrap_or_else(|| {
        exercise::APIS.iter().for_each(|api| println!("{api}"));
        std::process::exit(if named.is_empty() { 0 } else { 2 })
    })
});

fuzz_target!(init: { LazyLock::force(&API); }, |bytes: &[u8]| {
    if let Some((version, body)) = bytes.split_first() {
        let _ = exercise::body(*API, i16::from(version % VERSIONS), Bytes::copy_from_slice(body));
    }
});
