//! rskafka, which has no groups, no idempotent producer, and a client for each partition.

use std::env;
use std::time::{Duration, Instant};

use chrono::DateTime;
use clients::{Offsets, Outcome, Read, Record, Request, serve, tell};
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record as Sent, RecordAndOffset};
use serde_json::json;
use tokio::runtime::Builder;

const PATIENCE: Duration = Duration::from_secs(60);
/// What brokers may take, in milliseconds.
const TIMEOUT: i32 = 30_000;

fn main() -> Outcome {
    let bootstrap = env::args().nth(1).expect("PROGRAM BOOTSTRAP");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let backoff = BackoffConfig { deadline: Some(PATIENCE), ..BackoffConfig::default() };
    let client = runtime.block_on(ClientBuilder::new(vec![bootstrap]).backoff_config(backoff).build())?;
    serve(|request, _| runtime.block_on(carry_out(&client, request)));
    Ok(())
}

async fn carry_out(client: &Client, request: Request) -> Outcome {
    match request {
        Request::Create { topic, partitions } => {
            Ok(client.controller_client()?.create_topic(topic, partitions, 1, TIMEOUT).await?)
        }
        Request::Describe { topic } => {
            tell(json!({"partitions": partitions_of(client, &topic).await?.len()}));
            Ok(())
        }
        Request::Delete { topic } => Ok(client.controller_client()?.delete_topic(topic, TIMEOUT).await?),
        Request::DeleteRecords { topic, before } => {
            for (partition, offset) in before {
                partition_client(client, &topic, partition).await?.delete_records(offset, TIMEOUT).await?;
            }
            Ok(())
        }
        Request::Produce { topic, codec, idempotent: false, records } => produce(client, &topic, &codec, records).await,
        Request::Consume { topic, from, to } => consume(client, &topic, &from, &to).await,
        Request::Offsets { topic, partitions, times } => offsets(client, &topic, partitions, &times).await,
        other => Err(format!("rskafka has no such thing: {other:?}").into()),
    }
}

async fn partitions_of(client: &Client, topic: &str) -> Outcome<Vec<i32>> {
    let topics = client.list_topics().await?;
    let found = topics.into_iter().find(|found| found.name == topic).ok_or("there is no such topic")?;
    Ok(found.partitions.into_iter().collect())
}

async fn partition_client(client: &Client, topic: &str, partition: i32) -> Outcome<PartitionClient> {
    Ok(client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?)
}

/// In turn to each partition: the client leaves that to its user.
async fn produce(client: &Client, topic: &str, codec: &str, records: Vec<Record>) -> Outcome {
    let compression = compression(codec)?;
    let partitions = partitions_of(client, topic).await?;
    let mut batches: Vec<Vec<Sent>> = partitions.iter().map(|_| Vec::new()).collect();
    for (number, record) in records.into_iter().enumerate() {
        batches[number % partitions.len()].push(sent(record)?);
    }
    for (partition, batch) in partitions.into_iter().zip(batches) {
        partition_client(client, topic, partition).await?.produce(batch, compression).await?;
    }
    Ok(())
}

fn compression(codec: &str) -> Outcome<Compression> {
    match codec {
        "none" => Ok(Compression::NoCompression),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        other => Err(format!("there is no codec {other}").into()),
    }
}

fn sent(record: Record) -> Outcome<Sent> {
    let headers = record.headers.into_iter().map(|(name, value)| Ok((name, value.ok_or("headers have values")?.0)));
    Ok(Sent {
        key: record.key.map(|key| key.0),
        value: record.value.map(|value| value.0),
        headers: headers.collect::<Outcome<_>>()?,
        timestamp: DateTime::from_timestamp_millis(record.timestamp).ok_or("a time that there is not")?,
    })
}

async fn consume(client: &Client, topic: &str, from: &Offsets, to: &Offsets) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    for (partition, end) in to {
        let reader = partition_client(client, topic, *partition).await?;
        let mut next = from[partition];
        while next < *end {
            if Instant::now() > deadline {
                return Err(format!("after {} s {partition} is open", PATIENCE.as_secs()).into());
            }
            let (records, _) = reader.fetch_records(next, 1..1 << 20, 500).await?;
            for read in &records {
                show(*partition, read);
                next = read.offset + 1;
            }
        }
    }
    Ok(())
}

async fn offsets(client: &Client, topic: &str, partitions: i32, times: &[i64]) -> Outcome {
    let mut readers = Vec::new();
    for partition in 0..partitions {
        readers.push(partition_client(client, topic, partition).await?);
    }
    let earliest = offsets_at(&readers, OffsetAt::Earliest).await?;
    let latest = offsets_at(&readers, OffsetAt::Latest).await?;
    tell(json!({"earliest": earliest, "latest": latest}));
    for time in times {
        let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(*time).ok_or("a time that there is not")?);
        tell(json!({"time": time, "offsets": offsets_at(&readers, at).await?}));
    }
    Ok(())
}

async fn offsets_at(readers: &[PartitionClient], at: OffsetAt) -> Outcome<Vec<i64>> {
    let mut found = Vec::new();
    for reader in readers {
        found.push(reader.get_offset(at).await?);
    }
    Ok(found)
}

fn show(partition: i32, read: &RecordAndOffset) {
    let record = &read.record;
    Read {
        partition,
        offset: read.offset,
        timestamp: Some(record.timestamp.timestamp_millis()),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|(name, value)| (&name[..], Some(&value[..]))).collect(),
    }
    .tell();
}
