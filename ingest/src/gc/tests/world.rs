//! A bucket on a clock that the test moves, and a broker on it whose every step the test takes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{
    Catalog, CatalogReader, Page, PageEntry, PartitionRuns, RunEntry, SegmentEntry, TopicRuns,
};
use chronik_format::ids::{Incarnation, LaneId, LogIndex, Offset, Timestamp, TopicId};
use chronik_format::job::{CompactResult, CoveredRun, MergeResult};
use chronik_format::names::{
    ArchiveName, CheckpointName, PageName, ResultName, SegmentListName, SegmentName, TopicSegmentName,
};
use chronik_format::origin::Origin;
use chronik_format::segment_list::SegmentList;
use chronik_format::span::OffsetSpan;
use chronik_service::telemetry::Metrics;
use chronik_store::clocked::ClockedStore;
use chronik_store::faulty::FaultyStore;
use chronik_store::queue::EmbeddedQueue;
use chronik_store::{SharedStore, memory};
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;
use uuid::Uuid;

use crate::compaction::{CompactionDesk, CompactionLimits, CompactionParts};
use crate::data_dir::DataDir;
use crate::disk::memory::MemoryDisk;
use crate::gc::checkpoints::BucketCheckpoints;
use crate::gc::known::LOOKED_FOR_MS;
use crate::gc::object::NamedObject;
use crate::gc::{DeletionParts, GRACE_MS, MINUTE_MS, ObjectDeletion};
use crate::indexing::page_filing::PageFiling;
use crate::lane::owner::{LaneOwner, LaneSettings};
use crate::lane::replay::LaneReplay;
use crate::lane::ship_policy::ShipLimits;
use crate::lane::{Lane, ProducedBatch, ShipOrder};
use crate::merging::{MergingDesk, MergingParts};
use crate::metrics::{
    CompactionMetrics, DeletionMetrics, LaneMetrics, MergingMetrics, PageMetrics, RetentionMetrics, ShipMetrics,
};
use crate::ownership::claim;
use crate::ownership::heartbeat::Heartbeat;
use crate::ownership::{BucketOwnership, OwnershipTimes};
use crate::publish::catalog::{CatalogExporter, ExporterParts};
use crate::publish::pages::{PageCloser, PageLimits};
use crate::publish::segment_lists::{SegmentListLimits, SegmentLister};
use crate::publish::segments::SegmentShipper;
use crate::retention::{Retention, RetentionParts};
use crate::startup::recover;
use crate::state::command::{
    AlterTopicConfig, ArchiveFacts, Command, CreateTopic, DeleteRecords, DeleteTopic, FirstKept, RegisterResult,
    RegisterSegment, ReplacePages, SegmentRun,
};
use crate::state::topic_config::ConfigChange;
use crate::state::{LaneState, checkpoint};
use crate::wal::{self, DurableFloor, WalOptions};

pub const LANE: LaneId = LaneId(0);
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How much of history is in the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryLimits {
    pub pages: PageLimits,
    pub lists: SegmentListLimits,
}

/// The bucket, what readers may still hold, and the broker of the moment.
pub struct World {
    limits: HistoryLimits,
    pub faulty: Arc<FaultyStore>,
    pub broker: Broker,
    store: SharedStore,
    cluster: Uuid,
    now: Arc<AtomicI64>,
    named: u128,
    catalogs: Vec<(Arc<Catalog>, Option<Timestamp>)>,
    last_result: Option<RegisterResult>,
    pub last_merge: Option<MergeResult>,
    /// Of indexers that have compacted, and were not heard yet.
    pub compacted: Vec<CompactResult>,
}

/// A broker whose uploads, registrations and exports happen when the test says so.
pub struct Broker {
    pub lane: Lane,
    pub deletion: ObjectDeletion,
    pub metrics: DeletionMetrics,
    incarnation: Incarnation,
    orders: mpsc::UnboundedReceiver<ShipOrder>,
    uploaded: VecDeque<(RegisterSegment, ShipOrder)>,
    shipper: SegmentShipper,
    exporter: CatalogExporter,
    retention: Retention,
    pub catalog: Arc<CatalogReader>,
    pub filing: PageFiling,
    pub merging: MergingDesk,
    pub merging_metrics: MergingMetrics,
    pub queue: Arc<EmbeddedQueue>,
    pub compaction: CompactionDesk,
    /// Of compaction.
    pub jobs: Arc<EmbeddedQueue>,
    _stop: DropGuard,
    _data_dir: tempfile::TempDir,
}

impl World {
    /// A bucket whose broker has no pages.
    pub async fn new() -> Self {
        Self::with(HistoryLimits::default()).await
    }

    pub async fn with(limits: HistoryLimits) -> Self {
        // After the machine's own time, by which probes and exports are named.
        let now = Arc::new(AtomicI64::new(4_000_000_000_000));
        let millis = now.clone();
        let dated = ClockedStore::on(memory(), move || {
            UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst) as u64)
        });
        let faulty = Arc::new(FaultyStore::new(Arc::new(dated)));
        let store: SharedStore = faulty.clone();
        let cluster = claim::found_cluster(&store).await.unwrap();
        let incarnation = claim::claim_after(&store, None).await.unwrap();
        let broker = Broker::start(&store, cluster, LaneState::new(incarnation), limits).await;
        Self {
            limits,
            faulty,
            broker,
            store,
            cluster,
            now,
            named: 0,
            catalogs: Vec::new(),
            last_result: None,
            last_merge: None,
            compacted: vec![],
        }
    }

    pub fn now(&self) -> Timestamp {
        self.now.load(Ordering::SeqCst)
    }

    pub fn wait_minutes(&self, minutes: i64) {
        self.now.fetch_add(minutes * MINUTE_MS, Ordering::SeqCst);
    }

    pub fn ulid(&mut self) -> Ulid {
        self.named += 1;
        Ulid::from_parts(self.now() as u64, self.named)
    }

    pub async fn state(&self) -> LaneState {
        self.broker.lane.snapshot().await.unwrap()
    }

    pub async fn create_topic(&mut self) -> TopicId {
        let id = TopicId(Uuid::from_u128(self.ulid().0));
        let create = CreateTopic { id, name: id.to_string(), partitions: 1, config: Default::default() };
        self.broker.lane.propose(Command::CreateTopic(create)).await.unwrap();
        id
    }

    pub async fn set(&self, topic: TopicId, name: &str, value: &str) {
        let change = ConfigChange::new(false, [(name.to_owned(), Some(value.to_owned()))]).unwrap();
        self.broker.lane.propose(Command::AlterTopicConfig(AlterTopicConfig { topic, change })).await.unwrap();
    }

    pub async fn delete_topic(&mut self, id: TopicId) {
        let delete = DeleteTopic { id, at: self.now() };
        self.broker.lane.propose(Command::DeleteTopic(delete)).await.unwrap();
    }

    /// Has a topic keep so many bytes, or all.
    pub async fn keep_bytes(&mut self, topic: TopicId, bytes: i64) {
        self.alter(topic, "retention.bytes", bytes).await;
    }

    /// Has a topic keep what is so old, or all.
    pub async fn keep_ms(&mut self, topic: TopicId, ms: i64) {
        self.alter(topic, "retention.ms", ms).await;
    }

    async fn alter(&mut self, topic: TopicId, name: &str, value: i64) {
        let change = ConfigChange::new(false, [(name.to_owned(), Some(value.to_string()))]).unwrap();
        let alter = AlterTopicConfig { topic, change };
        self.broker.lane.propose(Command::AlterTopicConfig(alter)).await.unwrap();
    }

    /// Deletes what lies below an offset, as far as there are records, or all that there is.
    pub async fn delete_records(&mut self, topic: TopicId, offset: Option<Offset>) {
        let end = self.state().await.topics[&topic].partitions[0].next_offset;
        let partitions = vec![FirstKept { partition: 0, offset: offset.map(|offset| offset.min(end)) }];
        let delete = DeleteRecords { topic, partitions, at: self.now() };
        let log_starts = self.broker.lane.delete_records(delete).await.unwrap();
        assert!(log_starts.iter().all(Result::is_ok));
    }

    pub async fn append(&mut self, topic: TopicId) {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(1, None, Some(b"value"), &[]);
        let bytes = builder.finish();
        let produced = ProducedBatch {
            topic,
            partition: 0,
            header: BatchHeader::parse(&bytes).unwrap(),
            bytes,
            log_append_time: false,
        };
        self.broker.lane.append(produced).await.unwrap();
    }

    /// Uploads the oldest segment that is ordered, `copies` times; the last copy is the one to be registered.
    pub async fn upload(&mut self, copies: usize) {
        let Ok(order) = self.broker.orders.try_recv() else {
            return;
        };
        for _ in 1..copies {
            self.upload_range(order.first, order.last).await;
        }
        let segment = self.upload_range(order.first, order.last).await;
        self.broker.uploaded.push_back((segment, order));
    }

    async fn upload_range(&mut self, first: LogIndex, last: LogIndex) -> RegisterSegment {
        let built = self.broker.shipper.build(first, last).unwrap();
        let name = SegmentName { lane: LANE, incarnation: self.broker.incarnation, first, last, ulid: self.ulid() };
        self.store.create(&name.to_string(), built.parts).await.unwrap();
        RegisterSegment {
            incarnation: name.incarnation,
            first,
            last,
            key: name.to_string(),
            size: built.size,
            crc: built.directory_crc,
            directory_position: built.directory_position,
            named_at: self.now(),
            at: self.now(),
            runs: SegmentRun::all_of(&built.directory),
        }
    }

    /// Registers the oldest uploaded segment, under a new name if it is too old, and stores the checkpoint at its end.
    pub async fn register(&mut self) {
        let Some((mut segment, order)) = self.broker.uploaded.pop_front() else {
            return;
        };
        if self.now() - segment.named_at >= 5 * HOUR_MS {
            segment = self.upload_range(segment.first, segment.last).await;
        }
        segment.at = self.now();
        self.broker.lane.propose(Command::RegisterSegment(segment)).await.unwrap();
        if let Some(checkpoint) = order.checkpoint {
            self.store_checkpoint(&checkpoint.state).await;
        }
    }

    async fn store_checkpoint(&mut self, state: &LaneState) {
        let name =
            CheckpointName { lane: LANE, incarnation: state.incarnation, index: state.applied, ulid: self.ulid() };
        let bytes = checkpoint::encode(state, self.cluster, LANE);
        self.store.create(&name.to_string(), vec![bytes]).await.unwrap();
    }

    /// All of that for what is acknowledged now.
    pub async fn ship(&mut self, with_checkpoint: bool) {
        self.broker.lane.cut(with_checkpoint).await.unwrap();
        self.ship_ordered().await;
    }

    pub async fn ship_ordered(&mut self) {
        while !self.broker.orders.is_empty() || !self.broker.uploaded.is_empty() {
            self.upload(1).await;
            self.register().await;
        }
    }

    /// Stores an archive of one registered run that is open, or waits in a page.
    pub async fn build_archive(&mut self, pick: usize) -> Option<(TopicId, ArchiveFacts)> {
        let runs = self.runs().await;
        let (topic, run) = runs.get(pick % runs.len().max(1)).cloned()?;
        Some((topic, self.archive_over(topic, vec![run]).await))
    }

    pub async fn archive_over(&mut self, topic: TopicId, runs: Vec<CoveredRun>) -> ArchiveFacts {
        let name = ArchiveName { topic, incarnation: self.broker.incarnation, ulid: self.ulid() };
        self.create(&name.to_string()).await;
        ArchiveFacts { key: name.to_string(), size: 5, crc: 1, records: 1, named_at: self.now(), runs }
    }

    /// The runs that wait in pages, and all that are open, in archived ones or not.
    pub async fn runs(&self) -> Vec<(TopicId, CoveredRun)> {
        let (state, mut runs) = (self.state().await, Vec::new());
        let reader = CatalogReader::new(self.store.clone(), LANE, 0);
        let covered = |segment: &str, offsets: OffsetSpan| CoveredRun {
            segment: segment.to_owned(),
            partition: 0,
            first: offsets.first,
            last: offsets.last,
            min_timestamp: None,
            max_timestamp: None,
        };
        for topic in state.topics.values() {
            let mut leaves = reader.walk(topic.id, topic.pages.iter().cloned(), |_| true);
            while let Some((_, leaf)) = leaves.next_leaf().await.unwrap() {
                let waiting: Vec<_> = leaf.waiting(&leaf.archived()).map(|(_, run)| run.clone()).collect();
                let covered = waiting.iter().map(|run| covered(&leaf.segment_of(run).unwrap().key, run.offsets));
                runs.extend(covered.map(|run| (topic.id, run)));
            }
            let open = topic.partitions[0].runs.iter();
            let open = open.map(|run| covered(&state.segments.get(run.segment).unwrap().key, run.offsets));
            runs.extend(open.map(|run| (topic.id, run)));
        }
        runs
    }

    /// Stores a page above a topic's oldest one, and dies before it is named.
    pub async fn fold_untold(&mut self, topic: TopicId) -> String {
        let oldest = self.state().await.topics[&topic].pages.head().unwrap().clone();
        self.write_above(topic, &[oldest]).await.object
    }

    async fn write_above(&mut self, topic: TopicId, pages: &[Arc<PageEntry>]) -> PageEntry {
        let incarnation = self.broker.incarnation;
        let name = PageName { topic, incarnation, ulid: self.ulid() };
        let origin = Origin { cluster: self.cluster, incarnation, lane: LANE };
        let builder = PageBuilder { origin, topic, written_at: self.now() };
        let page = builder.inner(name.to_string(), pages).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        page.entry
    }

    /// Puts another page in the place of a topic's oldest one, over the same pages; the one that is gone.
    pub async fn replace_oldest(&mut self, topic: TopicId) -> String {
        let oldest = self.state().await.topics[&topic].pages.head().unwrap().clone();
        let Page::Pages(below) = CatalogReader::new(self.store.clone(), LANE, 0).page(topic, &oldest).await.unwrap()
        else {
            panic!("a leaf");
        };
        let new = vec![self.write_above(topic, &below).await];
        let (old, gone) = (vec![oldest.object.clone()], vec![oldest.object.clone()]);
        let replace = ReplacePages { topic, old, new, gone, deleted: Vec::new(), at: self.now() };
        self.broker.lane.propose(Command::ReplacePages(replace)).await.unwrap();
        oldest.object.clone()
    }

    /// Stores a segment for a topic's newest pages, three at the most, and a page over it, which takes their place if
    /// `is_told`.
    pub async fn compact(&mut self, topic: TopicId, is_told: bool) {
        let pages = self.state().await.topics[&topic].pages.clone();
        let leaves = pages.iter().rev().take(3).take_while(|page| page.height == 0).count();
        let old: Vec<Arc<PageEntry>> = pages.iter().skip(pages.len() - leaves).cloned().collect();
        let Some(newest) = old.last() else { return };
        let reader = CatalogReader::new(self.store.clone(), LANE, 0);
        let incarnation = self.broker.incarnation;
        let key = TopicSegmentName { topic, incarnation, ulid: self.ulid() }.to_string();
        self.create(&key).await;
        let mut gone: Vec<String> = old.iter().map(|page| page.object.clone()).collect();
        let mut runs = TopicRuns::default();
        runs.segments.push(SegmentEntry { key, level: 1, ..SegmentEntry::default() });
        let mut entries = Vec::new();
        for page in &old {
            let Page::Runs(of) = reader.page(topic, page).await.unwrap() else { panic!("no leaf") };
            let moved = of.of(0).iter().map(|run| RunEntry { segment: 0, ..run.clone() });
            entries.extend(moved);
            runs.archives.extend_from_slice(&of.archives);
            gone.extend(of.own_segments());
        }
        runs.partitions.push(PartitionRuns { partition: 0, runs: entries });
        let name = PageName { topic, incarnation, ulid: self.ulid() };
        let origin = Origin { cluster: self.cluster, incarnation, lane: LANE };
        let builder = PageBuilder { origin, topic, written_at: self.now() };
        let page = builder.leaf(name.to_string(), &runs, newest.bounds.last).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        if is_told {
            let (old, new) = (old.iter().map(|page| page.object.clone()).collect(), vec![page.entry]);
            let replace = ReplacePages { topic, old, new, gone, deleted: vec![], at: self.now() };
            let _ = self.broker.lane.propose(Command::ReplacePages(replace)).await;
        }
    }

    /// What lies below a topic's pages, by object name, and which page names it.
    pub async fn parents(&self, topic: TopicId) -> Vec<(String, String)> {
        let pages = self.state().await.topics[&topic].pages.clone();
        let reader = CatalogReader::new(self.store.clone(), LANE, 0);
        let mut pages = reader.walk(topic, pages, |_| true);
        let mut parents = Vec::new();
        while let Some((entry, page)) = pages.next().await.unwrap() {
            let below: Vec<String> = match page {
                Page::Runs(runs) => runs.archives.iter().map(|archive| archive.key.clone()).collect(),
                Page::Pages(below) => below.iter().map(|page| page.object.clone()).collect(),
            };
            parents.extend(below.into_iter().map(|below| (below, entry.object.clone())));
        }
        parents
    }

    /// Stores the result of a job in the inbox.
    pub async fn answer(&mut self, topic: TopicId, archive: ArchiveFacts) -> RegisterResult {
        let name = ResultName { lane: LANE, incarnation: self.broker.incarnation, ulid: self.ulid() };
        self.create(&name.to_string()).await;
        RegisterResult {
            result: name.to_string(),
            topic,
            index_epoch: 0,
            at: 0,
            archives: vec![archive],
            unreadable: Vec::new(),
        }
    }

    /// Takes a result in, whatever the state says to it, unless its pages can't be read or written.
    pub async fn take_in(&mut self, result: RegisterResult) {
        if let Some(rest) = self.file(result).await {
            let _ = self.broker.lane.propose(Command::RegisterResult(rest)).await;
        }
    }

    /// Puts what a result says of closed runs into their pages; what is left of it, unless they can't be read or
    /// written.
    pub async fn file(&mut self, result: RegisterResult) -> Option<RegisterResult> {
        let mut result = RegisterResult { at: self.now(), ..result };
        self.last_result = Some(result.clone());
        self.broker.filing.file(&mut result).await.ok().map(|()| result)
    }

    /// Takes the last result in again if, as a look into the inbox would find, it is still there with its archive.
    pub async fn take_in_again(&mut self) {
        let Some(result) = self.last_result.clone() else { return };
        let here = self.objects().await;
        if here.contains(&result.result) && here.contains(&result.archives[0].key) {
            self.take_in(result).await;
        }
    }

    pub async fn archive(&mut self, pick: usize) -> Option<String> {
        let (topic, archive) = self.build_archive(pick).await?;
        let key = archive.key.clone();
        let result = self.answer(topic, archive).await;
        self.take_in(result).await;
        Some(key)
    }

    pub async fn create(&self, key: &str) {
        self.store.create(key, vec![Bytes::from_static(b"bytes")]).await.unwrap();
    }

    pub async fn export(&mut self) {
        self.broker.exporter.export_if_changed(self.now()).await.unwrap();
        let newest = self.broker.catalog.current();
        let now = self.now();
        if let Some((last, superseded_at)) = self.catalogs.last_mut() {
            if last.generation() == newest.generation() {
                return;
            }
            *superseded_at = Some(now);
        }
        self.catalogs.push((newest, None));
    }

    /// A look of retention, which also trims pages.
    pub async fn retain(&mut self) {
        self.retain_as_of(0).await;
    }

    /// A look of retention by a clock that is so far ahead of the bucket's.
    pub async fn retain_as_of(&mut self, minutes_ahead: i64) {
        let now = self.now() + minutes_ahead * MINUTE_MS;
        self.broker.retention.look(now).await.unwrap();
    }

    pub async fn run(&mut self) {
        let now = self.now();
        let _ = self.broker.deletion.run(now).await;
    }

    pub async fn look_through(&mut self) {
        let now = self.now();
        let _ = self.broker.deletion.look_through(now).await;
    }

    /// The machine is lost: what comes next recovers from the bucket.
    pub async fn lose_machine(&mut self) {
        self.faulty.heal();
        let (mut state, _) = recover::from_bucket(&self.store, self.cluster, LANE, false).await.unwrap();
        let highest = claim::highest(&self.store).await.unwrap();
        state.begin_incarnation(claim::claim_after(&self.store, highest).await.unwrap());
        self.store_checkpoint(&state).await;
        self.broker = Broker::start(&self.store, self.cluster, state, self.limits).await;
    }

    pub async fn objects(&self) -> BTreeSet<String> {
        let mut here = BTreeSet::new();
        for prefix in ["lanes/", "topics/", "inbox/", "catalog/", "claims/", "probes/"] {
            let objects = self.store.list(prefix).await.unwrap();
            here.extend(objects.into_iter().map(|object| object.key));
        }
        here
    }

    /// Whatever the state, a kept checkpoint, or a catalog of the last hour names is there.
    pub async fn check(&self) {
        let here = self.objects().await;
        let check = |who: &str, keys: Vec<String>| {
            for key in keys {
                assert!(here.contains(&key), "{who} needs {key}");
            }
        };
        check("the state", self.needed_by(&self.state().await).await);
        for name in self.checkpoints().await.kept() {
            let bytes = self.store.read(&name.to_string(), None).await.unwrap();
            let state = checkpoint::decode("kept", bytes, self.cluster, LANE).unwrap();
            check("a kept checkpoint", self.needed_by(&state).await);
        }
        for (catalog, superseded_at) in &self.catalogs {
            if superseded_at.is_none_or(|at| self.now() - at < GRACE_MS) {
                check("a catalog", catalog.exports().map(str::to_owned).collect());
                check("a catalog's head", self.needed_by_catalog(catalog).await);
            }
        }
        for incarnation in 1..=self.broker.incarnation.0 {
            let incarnation = Incarnation(incarnation);
            check("fencing", vec![chronik_format::names::ClaimName { incarnation }.to_string()]);
        }
    }

    /// Enough time passes for everything to be cleared away; then there is nothing but what is needed.
    pub async fn finish(&mut self) {
        self.faulty.heal();
        self.create_topic().await;
        for _ in 0..5 {
            self.clear_away().await;
        }
        self.clear_away_all().await;
        self.wait_minutes(25 * 60);
        self.look_through().await;
        self.check().await;
        let mut needed: BTreeSet<String> = self.needed_by(&self.state().await).await.into_iter().collect();
        needed.extend(self.checkpoints().await.kept().iter().map(ToString::to_string));
        needed.extend(self.broker.catalog.current().exports().map(str::to_owned));
        needed.insert(chronik_format::names::latest(LANE));
        let here = self.objects().await;
        let stays = |key: &str| key.starts_with("claims/") || self.was_overlooked(key);
        let left: Vec<_> = here.iter().filter(|key| !stays(key) || needed.contains(*key)).collect();
        assert_eq!(left, needed.iter().collect::<Vec<_>>());
    }

    /// A round of deletion, with all that it waits for.
    pub async fn clear_away(&mut self) {
        self.ship(true).await;
        self.export().await;
        self.run().await;
        self.wait_minutes(61);
        self.run().await;
        self.check().await;
    }

    /// Rounds of deletion until nothing is on its way out.
    pub async fn clear_away_all(&mut self) {
        let mut rounds = 0;
        loop {
            let state = self.state().await;
            let worth = state.segments.are_worth_dropping(state.needed_from());
            if !worth && state.segments.dropped().is_none() && state.tombstones.is_empty() {
                return;
            }
            assert!(rounds < 20, "nothing happens: {:?}, {:?}", state.segments.dropped(), state.oldest_needed());
            rounds += 1;
            self.clear_away().await;
        }
    }

    /// An archive, a page or a segment that no look has found within the days after it was named.
    fn was_overlooked(&self, key: &str) -> bool {
        let object = NamedObject::named(key).filter(|object| matches!(object.kind(), "archive" | "page" | "segment"));
        object.is_some_and(|object| object.named_at() + LOOKED_FOR_MS < self.now())
    }

    /// From whichever kept checkpoint a recovery begins, it ends with the same records, and what it needs is there.
    pub async fn check_recoveries(&self) {
        let ends = |state: &LaneState| {
            let ends = state.topics.values().map(|topic| (topic.id, topic.partitions[0].shipped_to));
            ends.collect::<Vec<_>>()
        };
        let mut away = Vec::new();
        let mut newest = None;
        let checkpoints = self.checkpoints().await;
        let own = |name: &&CheckpointName| name.incarnation == self.broker.incarnation;
        for name in checkpoints.kept().iter().rev().take_while(own) {
            let (state, _) = recover::from_bucket(&self.store, self.cluster, LANE, false).await.unwrap();
            let here = self.objects().await;
            assert!(self.needed_by(&state).await.iter().all(|key| here.contains(key)), "what {name} leads to");
            assert_eq!(&ends(&state), newest.get_or_insert_with(|| ends(&state)));
            let key = name.to_string();
            away.push((key.clone(), self.store.read(&key, None).await.unwrap()));
            self.store.delete(&key).await.unwrap();
        }
        for (key, bytes) in away {
            self.store.create(&key, vec![bytes]).await.unwrap();
        }
    }

    /// The level 0 segments in the bucket, and the lists of them, each from the oldest to the newest.
    pub async fn shipped(&self) -> (Vec<SegmentName>, usize) {
        let objects = self.store.list(&SegmentName::prefix(LANE)).await.unwrap();
        let mut names: Vec<SegmentName> = objects.iter().filter_map(|object| object.key.parse().ok()).collect();
        names.sort_by_key(|name| name.first);
        (names, self.store.list(&SegmentListName::prefix(LANE)).await.unwrap().len())
    }

    /// Compacts all leaves at a topic's top.
    pub async fn compact_all(&mut self, topic: TopicId) {
        let level_0 = |page: &Arc<PageEntry>| page.height == 0 && page.bounds.oldest_segment.is_some();
        while self.state().await.topics[&topic].pages.iter().any(level_0) {
            self.compact(topic, true).await;
        }
    }

    async fn checkpoints(&self) -> BucketCheckpoints {
        BucketCheckpoints::list(&*self.store, LANE).await.unwrap()
    }

    async fn needed_by(&self, state: &LaneState) -> Vec<String> {
        let is_needed = |last: LogIndex| state.segments.needed_from() <= last;
        let held = state.segments.held().filter(|(_, segment)| is_needed(segment.last));
        let mut keys: Vec<String> = held.map(|(_, segment)| segment.key.to_string()).collect();
        for list in state.segments.lists() {
            let read = SegmentList::read(&*self.store, list).await.unwrap();
            let listed = read.segments.iter().filter(|segment| is_needed(segment.name.last));
            keys.extend(listed.map(|segment| segment.name.to_string()));
            keys.push(list.object.clone());
        }
        for topic in state.topics.values() {
            keys.extend(topic.archives.keys().map(ToString::to_string));
            keys.extend(self.needed_by_pages(topic.id, topic.pages.iter().cloned()).await);
        }
        keys
    }

    async fn needed_by_catalog(&self, catalog: &Catalog) -> Vec<String> {
        let mut keys = Vec::new();
        for (_, id) in catalog.topics() {
            let head = catalog.topic_by_id(id).await.unwrap().unwrap();
            keys.extend(named_by(&head.open));
            keys.extend(self.needed_by_pages(id, head.pages.iter().cloned()).await);
        }
        keys
    }

    /// The pages, and what they name.
    async fn needed_by_pages(&self, topic: TopicId, pages: impl Iterator<Item = Arc<PageEntry>>) -> Vec<String> {
        let reader = CatalogReader::new(self.store.clone(), LANE, 0);
        let mut pages = reader.walk(topic, pages, |_| true);
        let mut keys = Vec::new();
        while let Some((entry, page)) = pages.next().await.unwrap() {
            keys.push(entry.object.clone());
            if let Page::Runs(runs) = page {
                keys.extend(named_by(&runs));
            }
        }
        keys
    }
}

fn named_by(runs: &TopicRuns) -> impl Iterator<Item = String> {
    let segments = runs.segments.iter().map(|segment| segment.key.clone());
    segments.chain(runs.archives.iter().map(|archive| archive.key.clone()))
}

impl Broker {
    /// A broker on a new machine, with what the bucket holds as its state.
    async fn start(store: &SharedStore, cluster: Uuid, state: LaneState, limits: HistoryLimits) -> Self {
        let incarnation = state.incarnation;
        let options = WalOptions { file_bytes: 64 << 10, ..WalOptions::new("/wal", "/wal.mark", LANE, incarnation) };
        let floor = DurableFloor { checkpoint: state.applied, shipped: state.shipped_index() };
        let disk = MemoryDisk::default();
        wal::create(&disk, &options, state.applied).unwrap();
        let opened = wal::open(Arc::new(disk), options, floor, &mut |_, _| Ok(())).unwrap();
        let settings = LaneSettings {
            incarnation,
            ship: ShipLimits { bytes: 1 << 20, age: Duration::from_secs(24 * 3600) },
            tail_bytes_max: 1 << 16,
            commit_refresh: Duration::from_secs(3600),
        };
        let (ship, orders) = mpsc::unbounded_channel();
        let metrics = Metrics::new();
        let replayed = LaneReplay::new(state).finish();
        let (owner, lane) =
            LaneOwner::new(settings, replayed, opened.start().unwrap(), ship, LaneMetrics::new(&metrics));
        let stop = CancellationToken::new();
        tokio::spawn(owner.run(stop.clone()));
        let ownership = BucketOwnership::new(store.clone(), cluster, incarnation);
        let origin = ownership.origin(LANE);
        let rhythm = OwnershipTimes::default();
        let beat = Heartbeat::start(store.clone(), LANE, ownership.clone(), rhythm, None);
        let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, 0));
        let data_dir = tempfile::tempdir().unwrap();
        let opened = Arc::new(DataDir::open(data_dir.path()).unwrap());
        let exporter = CatalogExporter::new(ExporterParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            reader: catalog.clone(),
            data_dir: opened,
            beat,
            pages: PageCloser {
                origin,
                lane: lane.clone(),
                store: store.clone(),
                limits: limits.pages,
                metrics: PageMetrics::new(&metrics),
            },
            lister: SegmentLister {
                origin,
                lane: lane.clone(),
                store: store.clone(),
                limits: limits.lists,
                held: IntGauge::new("held_segments", "in the state").unwrap(),
            },
            checkpoint_failures: IntCounter::new("checkpoint_failures", "of checkpoints").unwrap(),
        });
        let retention = Retention::new(RetentionParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            catalog: catalog.clone(),
            metrics: RetentionMetrics::new(&metrics),
        });
        let deletion_metrics = DeletionMetrics::new(&metrics);
        let mut deletion = ObjectDeletion::new(DeletionParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            ownership: ownership.clone(),
            catalog: catalog.clone(),
            metrics: deletion_metrics.clone(),
        });
        deletion.pause = Duration::ZERO;
        let shipper = SegmentShipper {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            ownership,
            checkpoints: watch::channel(0).0,
            metrics: ShipMetrics::new(&metrics),
        };
        let filing = PageFiling { origin, lane: lane.clone(), store: store.clone(), catalog: catalog.clone() };
        let (queue, merging_metrics) = (Arc::new(EmbeddedQueue::new(1 << 20)), MergingMetrics::new(&metrics));
        let merging = MergingDesk::new(MergingParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            queue: queue.clone(),
            catalog: catalog.clone(),
            filing: filing.clone(),
            metrics: merging_metrics.clone(),
        });
        let jobs = Arc::new(EmbeddedQueue::new(1 << 20));
        let compaction = CompactionDesk::new(CompactionParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            queue: jobs.clone(),
            catalog: catalog.clone(),
            limits: CompactionLimits { folding: limits.pages, ..CompactionLimits::default() },
            metrics: CompactionMetrics::new(&metrics),
        });
        Self {
            lane,
            deletion,
            metrics: deletion_metrics,
            incarnation,
            orders,
            uploaded: VecDeque::new(),
            shipper,
            exporter,
            retention,
            filing,
            merging,
            merging_metrics,
            queue,
            compaction,
            jobs,
            catalog,
            _stop: stop.drop_guard(),
            _data_dir: data_dir,
        }
    }
}
