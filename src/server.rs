//! The server that the tool speaks to.

use chronik_service::setting::{Endpoint, Secret};
use clap::Args;

/// Where the tool finds the server, and how it answers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "For every command")]
pub struct ServerOptions {
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// A broker's address, HOST:PORT.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// The address of search, metrics and health.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub http: Endpoint,
    /// What the server was given as its CHRONIK_HTTP_TOKEN, if it was; better set as the variable.
    #[arg(long, global = true, env = "CHRONIK_HTTP_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub http_token: Option<Secret>,
}
