use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{DescribedGroup, DescribedGroupMember, LATEST_TIMESTAMP};
use serde_json::{Value, json};

use crate::kafka::{Assignment, CommittedOffsets, KafkaClient, KafkaError, assignment};
use crate::output::{CommandOutput, shown};

const COLUMNS: [&str; 8] = ["topic", "partition", "committed", "log end", "lag", "member", "client", "host"];

/// `chronik group describe`
pub async fn run(client: &mut KafkaClient, name: &str, output: &CommandOutput) -> Result<()> {
    let described = client.group(name).await?;
    let group = described.ok_or_else(|| KafkaError::UnknownGroup { name: name.to_owned() })?;
    let committed = client.committed(name).await?;
    let assigned: Vec<Assignment> = group.members.iter().map(|member| assigned_to(&group, member)).collect();
    let partitions = partitions(client, &group, &assigned, &committed).await?;
    let total_lag: i64 = partitions.iter().filter_map(|row| row["lag"].as_i64()).sum();
    if output.json {
        let members = group.members.iter().zip(&assigned).map(|(member, assigned)| {
            let mut document = document(member);
            document["instance"] = json!(member.group_instance_id);
            document["assigned"] = json!(assigned);
            document
        });
        return output.document(&json!({
            "group": name,
            "state": group.group_state,
            "protocol_type": group.protocol_type,
            "assignor": group.protocol_data,
            "total_lag": total_lag,
            "members": members.collect::<Vec<_>>(),
            "partitions": partitions,
        }));
    }
    let idle = group.members.iter().zip(&assigned).filter(|(_, assigned)| assigned.is_empty());
    let idle: Vec<_> = idle.map(|(member, _)| document(member)).collect();
    output.rows(&COLUMNS, partitions.iter().chain(&idle))?;
    let assignor = match group.protocol_data.as_str() {
        "" => String::new(),
        assignor => format!(", assigned by {}", shown(&assignor.into())),
    };
    let members = group.members.len();
    output.line(&format!("\nstate: {}; members: {members}{assignor}; total lag: {total_lag}", group.group_state))
}

/// A row for each partition of the topics of which some are assigned, or have a committed offset.
async fn partitions(
    client: &mut KafkaClient,
    group: &DescribedGroup,
    assigned: &[Assignment],
    committed: &CommittedOffsets,
) -> Result<Vec<Value>> {
    let mut owners = BTreeMap::new();
    for (member, topics) in group.members.iter().zip(assigned) {
        for (topic, partitions) in topics {
            owners.extend(partitions.iter().map(|partition| ((topic.clone(), *partition), member)));
        }
    }
    let mut wanted = BTreeMap::<&str, BTreeSet<PartitionId>>::new();
    for (topic, partition) in committed.keys().chain(owners.keys()) {
        wanted.entry(topic).or_default().insert(*partition);
    }
    let mut rows = Vec::new();
    for (topic, partitions) in wanted {
        let ends = ends(client, topic).await?;
        for partition in partitions.iter().chain(ends.keys()).copied().collect::<BTreeSet<_>>() {
            let place = (topic.to_owned(), partition);
            let mut row = owners.get(&place).map_or(json!({}), |member| document(member));
            let (committed, end) = (committed.get(&place), ends.get(&partition));
            row["topic"] = json!(topic);
            row["partition"] = json!(partition);
            row["committed"] = json!(committed);
            row["log_end"] = json!(end);
            row["lag"] = json!(committed.zip(end).map(|(committed, end)| end.saturating_sub(*committed).max(0)));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Where the log ends in each partition that is there.
async fn ends(client: &mut KafkaClient, topic: &str) -> Result<HashMap<PartitionId, Offset>, KafkaError> {
    let topic = match client.topic(topic, false).await {
        Err(KafkaError::UnknownTopic { .. }) => return Ok(HashMap::new()),
        found => found?,
    };
    let partitions: Vec<_> = (0..topic.leaders.len() as PartitionId).collect();
    client.offsets(&topic, &partitions, LATEST_TIMESTAMP).await
}

/// Nothing, where the members are no consumers.
fn assigned_to(group: &DescribedGroup, member: &DescribedGroupMember) -> Assignment {
    match group.protocol_type.as_str() {
        "consumer" => assignment(member.member_assignment.clone()).unwrap_or_default(),
        _ => Assignment::new(),
    }
}

fn document(member: &DescribedGroupMember) -> Value {
    json!({"member": member.member_id, "client": member.client_id, "host": member.client_host})
}
