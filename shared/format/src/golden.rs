//! Golden files: persisted formats may not change unnoticed.
#![allow(clippy::expect_used)]

use std::path::PathBuf;

/// Compares `bytes` with `tests/golden/{name}`, or writes that file if `CHRONIK_REGENERATE_GOLDEN` is set.
pub fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    if std::env::var_os("CHRONIK_REGENERATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, bytes).expect("the file can be written");
    }
    let golden = std::fs::read(&path).expect("the golden file exists");
    assert!(golden == bytes, "what is written now differs from {}", path.display());
}
