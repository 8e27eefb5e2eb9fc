//! `chronik group`: consumer groups as an operator sees them.

mod describe;
mod reset;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::json;

use crate::kafka::KafkaClient;
use crate::output::CommandOutput;
use crate::server::ServerOptions;
use crate::tool::values::named_once;

/// `chronik group`
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups.
    List,
    /// Show how far a group has read, and who its members are.
    Describe {
        /// The group's id.
        group: String,
    },
    /// Delete groups without members, and their offsets.
    Delete {
        /// The groups' ids.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Set where a group without members goes on; without --execute, only show it.
    Reset(reset::ResetCommand),
}

impl GroupCommand {
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let mut client = KafkaClient::connect(&server.bootstrap).await?;
        match self {
            Self::List => list(&mut client, output).await,
            Self::Describe { group } => describe::run(&mut client, &group, output).await,
            Self::Delete { groups } => delete(&mut client, &groups, output).await,
            Self::Reset(reset) => reset.run(&mut client, output).await,
        }
    }
}

async fn list(client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
    let groups = client.groups().await?.into_iter().map(|group| {
        json!({
            "group": group.group,
            "state": group.state,
            "protocol_type": group.protocol_type,
            "members": group.members,
        })
    });
    let groups: Vec<_> = groups.collect();
    match output.json {
        true => output.document(&json!({"groups": groups})),
        false => output.rows(&["group", "state", "protocol type", "members"], &groups),
    }
}

/// Goes on to the next group where one is refused.
async fn delete(client: &mut KafkaClient, groups: &[String], output: &CommandOutput) -> Result<()> {
    named_once("group delete", groups)?;
    let (mut deleted, mut refusals) = (Vec::new(), Vec::new());
    for group in groups {
        match client.delete_group(group).await {
            Ok(()) => deleted.push(group),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    match output.json {
        true => output.document(&json!({"deleted": deleted}))?,
        false => deleted.into_iter().try_for_each(|group| output.line(&format!("deleted group {group}")))?,
    }
    if !refusals.is_empty() {
        bail!("{}", refusals.join("\n"));
    }
    Ok(())
}
