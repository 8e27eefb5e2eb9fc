use anyhow::Result;

use crate::http::ServiceClient;
use crate::output::CommandOutput;
use crate::server::ServerOptions;

/// `chronik seal`
pub async fn run(server: &ServerOptions, output: &CommandOutput) -> Result<()> {
    let answer = ServiceClient::new(server)?.post("/v1/seal").await?;
    match output.json {
        true => output.document(&answer),
        false => output.line("everything acknowledged so far is in the bucket and on its way to the index"),
    }
}
