use anyhow::Result;
use serde_json::json;

use crate::output::CommandOutput;

/// `chronik version`
pub fn run(output: &CommandOutput) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match output.json {
        true => output.document(&json!({"version": version})),
        false => output.line(&format!("chronik {version}")),
    }
}
