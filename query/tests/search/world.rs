//! Topics whose records move from the tail into segments and from there into archives, as the lane's owner and indexers
//! would do it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use chronik_format::batch::{BatchHeader, Record, records};
use chronik_format::catalog::compacted::{CompactedSegment, compacted};
use chronik_format::catalog::page::{Page, PageBuilder, decode_page};
use chronik_format::catalog::{
    ArchiveEntry, ArchiveRun, CatalogReader, CatalogRoot, PageEntry, PartitionHead, PartitionRuns, RunEntry,
    SegmentEntry, TopicHead, TopicRuns, build_export,
};
use chronik_format::ids::{Incarnation, LaneId, Offset, PartitionId, TopicId};
use chronik_format::job::{
    CompactJob, IndexSettings, Job, JobInput, JobKind, JobPage, JobRun, RecordPlace, SegmentMade, VERSION,
};
use chronik_format::names;
use chronik_format::origin::Origin;
use chronik_format::segment::{self, LogEntry, PartitionBatches, SegmentHeader, SegmentReader};
use chronik_indexer::{Indexer, IndexerParts};
use chronik_peers::cold::BucketReader;
use chronik_peers::tail::memory::MemoryTail;
use chronik_peers::tail::{TailPartition, TailTopic};
use chronik_query::{QueryLimits, QueryParts, QueryService};
use chronik_service::telemetry::Metrics;
use chronik_store::queue::EmbeddedQueue;
use chronik_store::{SharedStore, memory};
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

const LANE: LaneId = LaneId(0);
const INCARNATION: Incarnation = Incarnation(1);

pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub settings: IndexSettings,
    pub search_enabled: bool,
    pub partitions: Vec<Partition>,
    pub archives: Vec<ArchiveEntry>,
    /// How many of the world's segments are closed.
    closed: usize,
    pub pages: Vec<Arc<PageEntry>>,
}

#[derive(Default)]
pub struct Partition {
    pub log_start: Offset,
    pub batches: Vec<Bytes>,
    pub runs: Vec<Run>,
}

#[derive(Clone)]
pub struct Run {
    /// Index into the world's segments.
    pub segment: usize,
    pub entry: RunEntry,
}

pub struct World {
    pub store: SharedStore,
    pub tail: Arc<MemoryTail>,
    pub topics: Vec<Topic>,
    pub segments: Vec<SegmentEntry>,
    index: u64,
    indexer: Indexer,
}

impl World {
    pub fn new() -> Self {
        let store = memory();
        let queue = Arc::new(EmbeddedQueue::new(1 << 20));
        let indexer = IndexerParts { store: store.clone(), queue, memory_bytes: 256 << 20, metrics: Metrics::new() };
        Self {
            store,
            tail: Arc::default(),
            topics: Vec::new(),
            segments: Vec::new(),
            index: 0,
            indexer: Indexer::new(indexer),
        }
    }

    pub fn add_topic(&mut self, name: &str, partitions: Vec<Vec<Bytes>>) -> &mut Topic {
        let partitions = partitions.into_iter().map(|batches| Partition { batches, ..Partition::default() }).collect();
        let id = TopicId(Uuid::from_u128(self.topics.len() as u128 + 1));
        self.topics.push(Topic {
            name: name.into(),
            id,
            settings: IndexSettings::default(),
            search_enabled: true,
            partitions,
            archives: Vec::new(),
            closed: 0,
            pages: Vec::new(),
        });
        self.topics.last_mut().unwrap()
    }

    /// A router with caches of its own; without a broker to ask if `tail` is false.
    pub fn service(&self, tail: bool) -> Router {
        self.service_within(QueryLimits::default(), tail)
    }

    pub fn service_within(&self, limits: QueryLimits, tail: bool) -> Router {
        self.measured_service(limits, tail, &Metrics::new())
    }

    pub fn measured_service(&self, limits: QueryLimits, tail: bool, metrics: &Metrics) -> Router {
        let catalog = Arc::new(CatalogReader::new(self.store.clone(), LANE, 1 << 20));
        let cold = Arc::new(BucketReader::new(self.store.clone(), catalog.clone(), 1 << 20));
        chronik_query::routes(QueryService::new(QueryParts {
            store: self.store.clone(),
            catalog,
            tail: tail.then(|| self.tail.clone() as _),
            cold,
            limits,
            metrics: metrics.clone(),
        }))
    }

    /// Ships up to `batches` more batches of every partition as one segment.
    pub async fn ship(&mut self, batches: usize) {
        let mut parts = Vec::new();
        for topic in &self.topics {
            for (number, partition) in topic.partitions.iter().enumerate() {
                let from = partition.shipped();
                let batches: Vec<_> = partition.batches.iter().skip(from).take(batches).cloned().collect();
                parts.push(PartitionBatches { topic: topic.id, partition: number as PartitionId, batches });
            }
        }
        self.index += 1;
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let header = SegmentHeader { origin, first: self.index, last: self.index };
        let log = [LogEntry { index: self.index, epoch: 1, commands: Bytes::new() }];
        let built = segment::build(header, parts, &log).unwrap();
        let key = format!("segments/{}", self.segments.len());
        self.store.create(&key, built.parts).await.unwrap();
        for row in &built.directory.rows {
            let topic = self.topics.iter_mut().find(|topic| topic.id == row.topic).unwrap();
            topic.partitions[row.partition as usize].runs.push(Run {
                segment: self.segments.len(),
                entry: RunEntry {
                    offsets: row.offsets,
                    segment: 0,
                    bytes: row.bytes,
                    times: row.times,
                    unreadable: None,
                },
            });
        }
        let (size, crc, directory_position) = (built.size, built.directory_crc, built.directory_position);
        self.segments.push(SegmentEntry { key, size, crc, directory_position, level: 0 });
    }

    /// Builds archives over a segment's runs of a topic, unless there is one.
    pub async fn archive(&mut self, topic: usize, segment: usize) {
        let topic = &mut self.topics[topic];
        let runs: Vec<JobRun> = (0..)
            .zip(&topic.partitions)
            .flat_map(|(partition, of)| {
                of.runs.iter().filter(|run| run.segment == segment).map(move |run| (partition, &run.entry))
            })
            .map(|(partition, run)| JobRun { partition, offsets: run.offsets, bytes: run.bytes })
            .collect();
        let covers = |archive: &ArchiveEntry| {
            let same = |covered: &ArchiveRun| {
                runs.iter().any(|run| (run.partition, run.offsets.first) == (covered.partition, covered.first))
            };
            archive.runs.iter().any(same)
        };
        if runs.is_empty() || segment < topic.closed || topic.archives.iter().any(covers) {
            return;
        }
        let SegmentEntry { key, size, crc, .. } = self.segments[segment].clone();
        let result = self.indexer.index(Job {
            v: VERSION,
            kind: JobKind::Index,
            cluster: Uuid::nil().to_string(),
            incarnation: INCARNATION,
            lane: LANE,
            id: ulid::Ulid::new().to_string(),
            topic: topic.name.clone(),
            topic_id: topic.id,
            index_epoch: 0,
            inputs: vec![JobInput { key, size, crc, runs }],
            settings: topic.settings,
        });
        let result = result.await.unwrap();
        assert!(result.unreadable.is_empty(), "{:?}", result.unreadable);
        topic.archives.extend(result.archives.into_iter().map(|made| {
            ArchiveEntry {
                key: made.key,
                size: made.size,
                crc: made.crc,
                records: made.records,
                merged: 0,
                runs: made
                    .runs
                    .into_iter()
                    .map(|run| ArchiveRun {
                        partition: run.partition,
                        first: run.first,
                        last: run.last,
                        min_timestamp: run.min_timestamp,
                        max_timestamp: run.max_timestamp,
                    })
                    .collect(),
            }
        }));
    }

    /// Closes what a topic has in its next segments, up to so many of all, into a page.
    pub async fn close(&mut self, topic: usize, segments: usize) {
        let topic = &mut self.topics[topic];
        let runs = topic.runs(&self.segments, topic.closed..segments.max(topic.closed));
        topic.closed = segments.max(topic.closed);
        if runs.partitions.is_empty() {
            return;
        }
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let object = format!("pages/{}-{}", topic.name, topic.pages.len());
        let builder = PageBuilder { origin, topic: topic.id, written_at: 0 };
        let page = builder.leaf(object.clone(), &runs, segments as u64).unwrap();
        self.store.create(&object, vec![page.bytes]).await.unwrap();
        topic.pages.push(page.entry.into());
    }

    /// Puts up to so many of a topic's pages, from one of those at the top on, below another.
    pub async fn fold(&mut self, topic: usize, from: usize, count: usize) {
        let topic = &mut self.topics[topic];
        let at_top = topic.pages.iter().skip(from).take(count);
        let height = topic.pages.get(from).map(|page| page.height);
        let below: Vec<_> = at_top.take_while(|page| Some(page.height) == height).cloned().collect();
        let Some(first) = below.first() else { return };
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let builder = PageBuilder { origin, topic: topic.id, written_at: 0 };
        let page = builder.inner(format!("{}-above-{}", first.object, below.len()), &below).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        topic.pages.splice(from..from + below.len(), [page.entry.into()]);
    }

    /// Has up to so many of a topic's leaves, from one of those at the top on, compacted.
    pub async fn compact(&mut self, topic: usize, from: usize, count: usize) {
        let topic = &mut self.topics[topic];
        let at_top = topic.pages.iter().skip(from).take(count);
        let old: Vec<_> = at_top.take_while(|page| page.height == 0).cloned().collect();
        let Some(newest) = old.last() else { return };
        let page = |page: &Arc<PageEntry>| JobPage { key: page.object.clone(), size: page.size, crc: page.crc };
        let job = CompactJob {
            v: VERSION,
            kind: JobKind::Compact,
            cluster: Uuid::nil().to_string(),
            incarnation: INCARNATION,
            lane: LANE,
            id: ulid::Ulid::new().to_string(),
            topic: topic.name.clone(),
            topic_id: topic.id,
            pages: old.iter().map(page).collect(),
            place: RecordPlace::default(),
            log_starts: Vec::new(),
            epoch: Some(1),
        };
        let result = self.indexer.compact(&job).await.unwrap();
        assert_eq!(result.failure, None);
        let mut pages = Vec::new();
        for page in &old {
            let stored = decode_page(&page.object, &self.store.read(&page.object, None).await.unwrap()).unwrap();
            let Page::Runs(runs) = stored.page else { panic!("{} is no leaf", page.object) };
            pages.push(runs);
        }
        let mut segments = Vec::new();
        for SegmentMade { key, size, crc, directory_position } in result.segments {
            let directory = SegmentReader::open(self.store.clone(), &key).await.unwrap().directory().clone();
            let entry = SegmentEntry { key, size, crc, directory_position, level: 1 };
            segments.push(CompactedSegment { entry, directory });
        }
        let runs = compacted(topic.id, &pages, segments, |_, _| false).unwrap();
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let builder = PageBuilder { origin, topic: topic.id, written_at: 0 };
        let page = builder.leaf(format!("{}-compacted", newest.object), &runs, newest.bounds.last).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        topic.pages.splice(from..from + old.len(), [page.entry.into()]);
    }

    /// Exports the catalog and lets the tail begin `kept` batches before what is shipped.
    pub async fn export(&mut self, kept: usize) {
        self.index += 1;
        let heads: Vec<TopicHead> = self.topics.iter().map(|topic| topic.head(&self.segments)).collect();
        let root = CatalogRoot {
            incarnation: INCARNATION,
            lane: LANE,
            index: self.index,
            shipped_index: self.index,
            heads: Vec::new(),
        };
        let object = format!("catalog/{}", self.index);
        let export = build_export(Uuid::nil(), &object, root, &heads).unwrap();
        self.store.create(&object, export.parts).await.unwrap();
        self.store.overwrite(&names::latest(LANE), export.latest.encode().into()).await.unwrap();
        self.set_tail(kept);
    }

    pub fn set_tail(&self, kept: usize) {
        self.tail.change(|state| {
            for topic in &self.topics {
                let partitions = topic.partitions.iter().enumerate().map(|(number, of)| {
                    let start = of.shipped().saturating_sub(kept);
                    state.batches.insert((topic.id, number as PartitionId), of.batches[start..].to_vec());
                    TailPartition {
                        partition: number as PartitionId,
                        log_start: of.log_start,
                        start: of
                            .batches
                            .get(start)
                            .map_or(of.end(), |batch| BatchHeader::parse(batch).unwrap().base_offset),
                        end: of.end(),
                    }
                });
                let known = TailTopic {
                    id: topic.id,
                    search_enabled: topic.search_enabled,
                    index: topic.settings,
                    partitions: partitions.collect(),
                };
                state.topics.insert(topic.name.clone(), known);
            }
        });
    }

    /// Every readable record: (topic, partition, record).
    pub fn records(&self) -> Vec<(&Topic, PartitionId, Record)> {
        let mut all = Vec::new();
        for topic in &self.topics {
            for (number, partition) in topic.partitions.iter().enumerate() {
                let decoded =
                    partition.batches.iter().flat_map(|batch| records(batch, 1 << 24).unwrap()).map(Result::unwrap);
                let readable = decoded.filter(|record| record.offset >= partition.log_start);
                all.extend(readable.map(|record| (topic, number as PartitionId, record)));
            }
        }
        all
    }
}

impl Partition {
    /// Batches in segments.
    fn shipped(&self) -> usize {
        let to = self.runs.last().map_or(0, |run| run.entry.offsets.end());
        self.batches.iter().take_while(|batch| BatchHeader::parse(batch).unwrap().last_offset() < to).count()
    }

    pub fn end(&self) -> Offset {
        self.batches.last().map_or(0, |batch| BatchHeader::parse(batch).unwrap().last_offset() + 1)
    }
}

impl Topic {
    fn head(&self, segments: &[SegmentEntry]) -> TopicHead {
        let partition = |(number, of): (usize, &Partition)| PartitionHead {
            partition: number as PartitionId,
            log_start: of.log_start,
            shipped_to: of.runs.last().map_or(0, |run| run.entry.offsets.end()),
            last_stable: of.end(),
            epochs: vec![(1, 0)],
        };
        TopicHead {
            id: self.id,
            name: self.name.clone(),
            search_enabled: self.search_enabled,
            index: self.settings,
            partitions: self.partitions.iter().enumerate().map(partition).collect(),
            pages: self.pages.clone(),
            open: self.runs(segments, self.closed..segments.len()).into(),
        }
    }

    /// What lies in some of the world's segments.
    fn runs(&self, segments: &[SegmentEntry], within: Range<usize>) -> TopicRuns {
        let entry = |run: &Run| RunEntry { segment: run.segment as u32, ..run.entry.clone() };
        let of = |(partition, of): (PartitionId, &Partition)| PartitionRuns {
            partition,
            runs: of.runs.iter().filter(|run| within.contains(&run.segment)).map(entry).collect(),
        };
        let partitions = (0..).zip(&self.partitions).map(of).filter(|partition| !partition.runs.is_empty());
        let mut runs =
            TopicRuns { segments: segments.to_vec(), partitions: partitions.collect(), archives: Vec::new() };
        let is_over =
            |archive: &&ArchiveEntry| archive.runs.iter().any(|run| runs.at(run.partition, run.first).is_some());
        runs.archives = self.archives.iter().filter(is_over).cloned().collect();
        runs
    }
}

/// Status and document of a GET.
pub async fn get(service: &Router, path: &str, parameters: &[(&str, String)]) -> (StatusCode, Value) {
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let request = Request::get(format!("{path}?{}", query.join("&"))).body(Body::empty()).unwrap();
    answer(service, request).await
}

pub async fn answer(service: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = service.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 28).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?}")))
}

pub fn parameters<const N: usize>(list: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    list.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Counts the hits by (topic, partition, offset).
pub fn places(document: &Value) -> Vec<(String, i64, i64)> {
    let hits = document["hits"].as_array().unwrap();
    let place = |hit: &Value| {
        (hit["topic"].as_str().unwrap().to_owned(), hit["partition"].as_i64().unwrap(), hit["offset"].as_i64().unwrap())
    };
    hits.iter().map(place).collect()
}

/// What a search covers if nothing is missing: every partition from log start to end.
pub fn whole(world: &World) -> BTreeMap<(String, i64), (i64, i64)> {
    let partition = |topic: &Topic, (number, of): (usize, &Partition)| {
        ((topic.name.clone(), number as i64), (of.log_start, of.end().max(of.log_start)))
    };
    world
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().enumerate().map(move |of| partition(topic, of)))
        .collect()
}

pub fn coverage(document: &Value) -> BTreeMap<(String, i64), (i64, i64)> {
    let number = |value: &Value| value.as_i64().unwrap();
    let list = document["coverage"].as_array().unwrap().iter();
    list.map(|range| {
        (
            (range["topic"].as_str().unwrap().to_owned(), number(&range["partition"])),
            (number(&range["from"]), number(&range["to"])),
        )
    })
    .collect()
}
