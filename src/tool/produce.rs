use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, RecordHeader};
use chronik_format::ids::{Offset, PartitionId};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::now_ms;
use crate::kafka::{IdempotentProducer, KafkaClient, partition_of_key};
use crate::output::CommandOutput;
use crate::server::ServerOptions;
use crate::tool::values::{not_empty, partition};

/// What a broker of ours accepts in one batch at most; a longer line could never be stored.
const LINE_BYTES_MAX: usize = 32 << 20;
/// Bytes of lines that go out together, and how many such groups are read ahead of the broker's answer.
const GROUP_BYTES_MAX: usize = 512 << 10;
const GROUPS_AHEAD_MAX: usize = 2;

/// Lines that were there together.
type Lines = Vec<Vec<u8>>;

/// `chronik produce`
#[derive(Args, Debug)]
pub struct ProduceCommand {
    /// The topic; a broker that creates topics on use creates it.
    #[arg(value_parser = not_empty())]
    topic: String,
    /// What stands between key and value in a line; a line without it has no key.
    #[arg(long, value_name = "TEXT", value_parser = not_empty())]
    key_separator: Option<String>,
    /// A header for every record; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<RecordHeader>,
    /// How batches are compressed.
    #[arg(long, value_name = "CODEC", default_value = "none")]
    codec: CodecName,
    /// The partition [default: by the key; lines without one go to one partition a batch, and the next batch to the
    /// next, as Kafka's own producers send them].
    #[arg(long, value_name = "NUMBER", value_parser = partition(), allow_negative_numbers = true)]
    partition: Option<PartitionId>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Records of one partition that were acknowledged.
#[derive(Debug)]
struct Appended {
    first: Offset,
    last: Offset,
    records: u64,
}

impl ProduceCommand {
    /// Every line of standard input, without its line feed, becomes a record. Lines that are there go out together;
    /// nothing waits for more. Each is written once, even if its batch has to be sent again.
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let mut client = KafkaClient::connect(&server.bootstrap).await?;
        let topic = client.topic(&self.topic, true).await?;
        let mut producer = IdempotentProducer::new(&mut client, topic).await?;
        let mut groups = lines_of_stdin();
        let mut appended = BTreeMap::new();
        let mut turn = 0;
        while let Some(lines) = groups.recv().await {
            let lines = lines.context("standard input can't be read")?;
            for (partition, lines) in self.by_partition(&lines, producer.partitions(), turn) {
                let sent = self.send(&mut client, &mut producer, partition, &lines, &mut appended).await;
                sent.with_context(|| told_so_far(&appended))?;
            }
            turn += 1;
        }
        self.report(output, &appended)
    }

    /// The lines of each partition. Those without a key go to one together, the next ones in turn.
    fn by_partition<'a>(
        &self,
        lines: &'a [Vec<u8>],
        partitions: usize,
        turn: usize,
    ) -> BTreeMap<PartitionId, Vec<&'a [u8]>> {
        let mut parted: BTreeMap<PartitionId, Vec<&[u8]>> = BTreeMap::new();
        for line in lines {
            let (key, _) = self.key_and_value(line);
            let partition = self.partition.unwrap_or_else(|| match key {
                Some(key) => partition_of_key(key, partitions),
                None => (turn % partitions.max(1)) as PartitionId,
            });
            parted.entry(partition).or_default().push(line);
        }
        parted
    }

    /// Sends lines as one batch, or as several where the topic's batches are smaller.
    async fn send(
        &self,
        client: &mut KafkaClient,
        producer: &mut IdempotentProducer,
        partition: PartitionId,
        lines: &[&[u8]],
        appended: &mut BTreeMap<PartitionId, Appended>,
    ) -> Result<()> {
        let mut waiting = vec![lines];
        while let Some(lines) = waiting.pop() {
            match producer.append(client, partition, self.batch(lines)).await {
                Err(error) if error.is_too_large() && lines.len() > 1 => {
                    let (first, rest) = lines.split_at(lines.len() / 2);
                    waiting.extend([rest, first]);
                }
                first => Appended::note(appended, partition, first?, lines.len()),
            }
        }
        Ok(())
    }

    fn batch(&self, lines: &[&[u8]]) -> BatchBuilder {
        let mut builder = BatchBuilder::new(self.codec.codec());
        for line in lines {
            let (key, value) = self.key_and_value(line);
            builder.push(now_ms(), key, Some(value), &self.headers);
        }
        builder
    }

    fn key_and_value<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(separator) = self.key_separator.as_deref().map(str::as_bytes) else {
            return (None, line);
        };
        match line.windows(separator.len()).position(|window| window == separator) {
            Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
            None => (None, line),
        }
    }

    fn report(&self, output: &CommandOutput, appended: &BTreeMap<PartitionId, Appended>) -> Result<()> {
        if !output.json {
            return output.line(&format!("{} in {}", told_so_far(appended), self.topic));
        }
        let partitions = appended.iter().map(|(partition, range)| {
            json!({"partition": partition, "records": range.records, "first": range.first, "last": range.last})
        });
        let records: u64 = appended.values().map(|range| range.records).sum();
        let partitions: Vec<_> = partitions.collect();
        output.document(&json!({"topic": self.topic, "records": records, "partitions": partitions}))
    }
}

impl Appended {
    fn note(appended: &mut BTreeMap<PartitionId, Self>, partition: PartitionId, first: Offset, records: usize) {
        let last = first + records as Offset - 1;
        let range = appended.entry(partition).or_insert(Self { first, last, records: 0 });
        range.last = last;
        range.records += records as u64;
    }
}

fn told_so_far(appended: &BTreeMap<PartitionId, Appended>) -> String {
    match appended.values().map(|range| range.records).sum::<u64>() {
        1 => "1 record acknowledged".to_owned(),
        records => format!("{records} records acknowledged"),
    }
}

/// Lines of standard input without their line feeds, read on a thread of their own: a terminal may block for ever.
fn lines_of_stdin() -> mpsc::Receiver<io::Result<Lines>> {
    let (sender, receiver) = mpsc::channel(GROUPS_AHEAD_MAX);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(64 << 10, io::stdin());
        while let Some(lines) = next_lines(&mut input).transpose() {
            let is_last = lines.is_err();
            if sender.blocking_send(lines).is_err() || is_last {
                break;
            }
        }
    });
    receiver
}

/// Waits for a line and takes those that have arrived with it; `None` at the end of the input.
fn next_lines(input: &mut BufReader<impl Read>) -> io::Result<Option<Lines>> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while let Some(line) = next_line(input)? {
        bytes += line.len();
        lines.push(line);
        if bytes >= GROUP_BYTES_MAX || !input.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok((!lines.is_empty()).then_some(lines))
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    match line.last() {
        None => return Ok(None),
        Some(b'\n') => {
            line.pop();
        }
        Some(_) => {}
    }
    if line.len() > LINE_BYTES_MAX {
        let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Some(line))
}

impl CodecName {
    fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

fn header(text: &str) -> Result<RecordHeader> {
    let Some((name, value)) = text.split_once('=') else {
        bail!("{text:?} is not NAME=VALUE");
    };
    Ok(RecordHeader {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn lines_lose_their_line_feed_and_nothing_else() {
        let mut input = BufReader::new(&b"a\r\n\n\xff\nlast"[..]);
        let groups: Vec<_> = std::iter::from_fn(|| next_lines(&mut input).unwrap()).collect();
        assert_eq!(groups.concat(), [&b"a\r"[..], b"", b"\xff", b"last"]);
        assert_eq!(groups.len(), 2, "whole lines that are there go out together");
    }

    #[test]
    fn a_key_ends_at_the_first_separator() {
        let produce = ProduceCommand {
            topic: String::new(),
            key_separator: Some("::".to_owned()),
            headers: Vec::new(),
            codec: CodecName::None,
            partition: None,
        };
        assert_eq!(produce.key_and_value(b"k::v::w"), (Some(&b"k"[..]), &b"v::w"[..]));
        assert_eq!(produce.key_and_value(b"::v"), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(produce.key_and_value(b"plain"), (None, &b"plain"[..]));
    }
}
