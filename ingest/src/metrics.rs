//! What the broker counts and measures.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use chronik_net::NetStats;
use chronik_service::telemetry::Metrics;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

/// Of the lane's owner.
#[derive(Clone)]
pub struct LaneMetrics {
    /// One fdatasync of the write-ahead log.
    pub fsync_seconds: Histogram,
    /// The owner applies the frames that one fdatasync made durable, publishes them and answers.
    pub apply_seconds: Histogram,
    /// The owner takes all requests that wait, into frames or to release what was shipped.
    pub turn_seconds: Histogram,
    /// Batches refused because the write-ahead log had no space.
    pub refused_for_room: IntCounter,
    /// Commits of offsets refused for the same reason.
    pub refused_commits: IntCounter,
    /// Deletions of records refused for the same reason.
    pub refused_deletions: IntCounter,
    /// Memory for the newest batches, and for where the log has the others, bytes.
    pub tail_bytes: IntGauge,
}

impl LaneMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            fsync_seconds: metrics
                .seconds("chronik_wal_fsync_seconds", "Time of one fdatasync of the write-ahead log."),
            apply_seconds: metrics.seconds(
                "chronik_lane_apply_seconds",
                "Time in which the lane's owner applies what one fdatasync made durable.",
            ),
            turn_seconds: metrics.seconds(
                "chronik_lane_turn_seconds",
                "Time in which the lane's owner takes the requests that wait; nothing is acknowledged meanwhile.",
            ),
            refused_for_room: metrics
                .counter("chronik_wal_refused_total", "Batches refused because the write-ahead log had no space."),
            refused_commits: metrics.counter(
                "chronik_wal_refused_commits_total",
                "Commits of consumer groups' offsets refused because the write-ahead log had no space.",
            ),
            refused_deletions: metrics.counter(
                "chronik_wal_refused_deletions_total",
                "Deletions of records refused because the write-ahead log had no space.",
            ),
            tail_bytes: metrics.gauge(
                "chronik_tail_memory_bytes",
                "Memory for the newest batches, and for where the write-ahead log has the others.",
            ),
        }
    }
}

/// Of the connections of Kafka clients.
#[derive(Clone)]
pub struct KafkaMetrics {
    connections: IntGauge,
    in_flight_bytes: IntGauge,
    refused_connections: IntCounter,
    faulty_connections: IntCounter,
    panics: IntCounter,
}

impl KafkaMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("chronik_kafka_connections", "Connections of Kafka clients that are open."),
            in_flight_bytes: metrics.gauge(
                "chronik_kafka_in_flight_bytes",
                "Bytes of requests of Kafka clients that are being read or answered.",
            ),
            refused_connections: metrics.counter(
                "chronik_kafka_refused_connections_total",
                "Connections of Kafka clients closed at once because there were too many.",
            ),
            faulty_connections: metrics.counter(
                "chronik_kafka_faulty_connections_total",
                "Connections of Kafka clients closed for what came over them, or did not.",
            ),
            panics: metrics.counter(
                "chronik_kafka_panics_total",
                "Requests of Kafka clients that ended their connection by a fault of the program.",
            ),
        }
    }

    /// Takes over what the server has counted since the last time.
    pub fn follow(&self, stats: &NetStats) {
        let gauges = [(&self.connections, &stats.connections_open), (&self.in_flight_bytes, &stats.in_flight_bytes)];
        for (shown, counted) in gauges {
            shown.set(counted.load(Relaxed) as i64);
        }
        let counters: [(&IntCounter, &AtomicU64); 3] = [
            (&self.refused_connections, &stats.connections_refused),
            (&self.faulty_connections, &stats.connections_faulty),
            (&self.panics, &stats.panics),
        ];
        for (shown, counted) in counters {
            shown.inc_by(counted.load(Relaxed) - shown.get());
        }
    }
}

/// Where fetches were served from.
#[derive(Clone)]
pub struct FetchMetrics {
    /// Reads of old records, through query workers or from the bucket itself.
    pub cold_seconds: Histogram,
    /// Bytes of records in answers that are not sent yet.
    pub answer_bytes: IntGauge,
    /// Bytes of batches in answers to query workers that are not sent yet.
    pub tail_answer_bytes: IntGauge,
    wal_hits: IntCounter,
    segment_hits: IntCounter,
    wal_rate: Gauge,
    segment_rate: Gauge,
}

impl FetchMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            cold_seconds: metrics.seconds(
                "chronik_cold_fetch_seconds",
                "Time of a read of old records, through query workers or from the bucket itself.",
            ),
            answer_bytes: metrics
                .gauge("chronik_fetch_answer_bytes", "Bytes of records in answers to fetches that are not sent yet."),
            tail_answer_bytes: metrics.gauge(
                "chronik_tail_answer_bytes",
                "Bytes of batches in answers to query workers that are not sent yet: of eight answers at most.",
            ),
            wal_hits: metrics
                .counter("chronik_fetch_wal_total", "Partition reads served from memory or the write-ahead log."),
            segment_hits: metrics.counter("chronik_fetch_segment_total", "Partition reads served from segments."),
            wal_rate: metrics.ratio(
                "fetch_wal_hit_rate",
                "Share of all partition reads that were served from memory or the write-ahead log.",
            ),
            segment_rate: metrics
                .ratio("fetch_segment_hit_rate", "Share of all partition reads that were served from segments."),
        }
    }

    /// Counts a read from memory or the write-ahead log.
    pub fn wal_hit(&self) {
        self.wal_hits.inc();
        self.update_rates();
    }

    /// Counts a read from segments.
    pub fn segment_hit(&self) {
        self.segment_hits.inc();
        self.update_rates();
    }

    fn update_rates(&self) {
        let (wal, segment) = (self.wal_hits.get() as f64, self.segment_hits.get() as f64);
        self.wal_rate.set(wal / (wal + segment));
        self.segment_rate.set(segment / (wal + segment));
    }
}

/// Of fetch sessions.
#[derive(Clone)]
pub struct SessionMetrics {
    /// Sessions there are.
    pub sessions: IntGauge,
    /// Partitions of all of them.
    pub partitions: IntGauge,
    /// Memory for them, bytes.
    pub bytes: IntGauge,
    /// Sessions that made room for others, or found none to grow.
    pub evictions: IntCounter,
}

impl SessionMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            sessions: metrics.gauge("chronik_fetch_sessions", "Fetch sessions of clients."),
            partitions: metrics.gauge("chronik_fetch_session_partitions", "Partitions of all fetch sessions together."),
            bytes: metrics.gauge("chronik_fetch_session_memory_bytes", "Memory for what fetch sessions remember."),
            evictions: metrics.counter(
                "chronik_fetch_session_evictions_total",
                "Fetch sessions that had to make room for others, or found none to grow.",
            ),
        }
    }
}

/// Of consumer groups.
#[derive(Clone)]
pub struct GroupMetrics {
    /// Groups that have or had members.
    pub groups: IntGauge,
    /// What their members tell of themselves and are assigned, bytes.
    pub bytes: IntGauge,
    /// Generations that were saved.
    pub rebalances: IntCounter,
}

impl GroupMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            groups: metrics.gauge("chronik_groups", "Consumer groups that have or had members."),
            bytes: metrics.gauge(
                "chronik_group_memory_bytes",
                "Bytes of what members of consumer groups tell of themselves and are assigned.",
            ),
            rebalances: metrics.counter("chronik_group_rebalances_total", "Rebalances of consumer groups."),
        }
    }
}

/// Of shipping and indexing.
#[derive(Clone)]
pub struct ShipMetrics {
    /// Bytes acknowledged and not yet in a registered segment.
    pub unshipped_bytes: IntGauge,
    /// How long the oldest of them waits.
    pub unshipped_seconds: Gauge,
    /// Segments registered.
    pub segments: IntCounter,
    /// Registered segments in the lane's state.
    pub held_segments: IntGauge,
    /// Bytes of registered segments.
    pub segment_bytes: IntCounter,
    /// Bytes of segments in memory that the bucket does not have yet.
    pub upload_bytes: IntGauge,
    /// Uploads that failed and were tried again.
    pub upload_failures: IntCounter,
    /// Local checkpoints that could not be written and were tried again.
    pub checkpoint_failures: IntCounter,
    /// Jobs sent and not answered.
    pub pending_jobs: IntGauge,
    /// Messages in the job queue that no indexer has received yet, at the last look.
    pub queue_visible: IntGauge,
    /// Messages in the job queue that an indexer works on, at the last look.
    pub queue_in_flight: IntGauge,
    /// Sends to the job queue, and looks at it, that failed.
    pub queue_failures: IntCounter,
    /// How long the oldest run waits for its archive.
    pub indexer_lag_seconds: Gauge,
    /// Runs that wait for an archive, open or in pages.
    pub waiting_runs: IntGauge,
    /// Bytes of their batches.
    pub waiting_bytes: IntGauge,
    /// Runs that are scanned for good because they could not be indexed.
    pub unreadable_runs: IntCounter,
}

/// Of compaction.
#[derive(Clone)]
pub struct CompactionMetrics {
    /// Times that pages were put in the place of others.
    pub compactions: IntCounter,
    /// Bytes of batches in them.
    pub bytes: IntCounter,
    /// Jobs without a result that can be used.
    pub failures: IntCounter,
    /// Pages that are left as they are because of that.
    pub failed_pages: IntGauge,
    /// Pages that were never compacted, and what is in them.
    pub debt_pages: IntGauge,
    pub debt_runs: IntGauge,
    pub debt_bytes: IntGauge,
    /// How long ago the oldest of them was closed.
    pub debt_seconds: Gauge,
}

impl CompactionMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            compactions: metrics.counter("chronik_compactions_total", "Times that pages took the place of others."),
            bytes: metrics.counter("chronik_compacted_bytes_total", "Bytes of batches in compacted pages."),
            failures: metrics.counter("chronik_compaction_failures_total", "Compactions that came to nothing usable."),
            failed_pages: metrics.gauge(
                "chronik_compaction_failed_pages",
                "Pages that are left as they are until the next start, because their compaction has failed.",
            ),
            debt_pages: metrics.gauge("chronik_compaction_debt_pages", "Pages that were never compacted."),
            debt_runs: metrics.gauge("chronik_compaction_debt_runs", "Runs in pages that were never compacted."),
            debt_bytes: metrics.gauge("chronik_compaction_debt_bytes", "Bytes in pages that were never compacted."),
            debt_seconds: metrics.ratio(
                "chronik_compaction_debt_age_seconds",
                "How long ago the oldest page that was never compacted was closed; of those below one page, the newest.",
            ),
        }
    }
}

/// Of merging.
#[derive(Clone)]
pub struct MergingMetrics {
    /// Leaves that came in the place of others with fewer archives.
    pub merges: IntCounter,
    /// Archives that are gone thereby.
    pub merged_archives: IntCounter,
    /// Jobs without a result that can be used.
    pub failures: IntCounter,
    /// Leaves that are left as they are because of that.
    pub failed_pages: IntGauge,
    /// Live archives of all topics.
    pub archives: IntGauge,
    /// Those that are to be merged.
    pub debt_archives: IntGauge,
}

impl MergingMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            merges: metrics.counter("chronik_merges_total", "Pages whose archives were merged."),
            merged_archives: metrics
                .counter("chronik_merged_archives_total", "Archives in whose place merged ones are."),
            failures: metrics.counter("chronik_merge_failures_total", "Jobs of merging that came to nothing usable."),
            failed_pages: metrics.gauge(
                "chronik_merge_failed_pages",
                "Pages whose archives are left as they are until the next start, because merging them has failed.",
            ),
            archives: metrics.gauge("chronik_archives", "Live archives."),
            debt_archives: metrics.gauge("chronik_merge_debt_archives", "Archives that are to be merged."),
        }
    }
}

/// Of closed history.
#[derive(Clone)]
pub struct PageMetrics {
    /// Runs in the lane's state.
    pub open_runs: IntGauge,
    /// Pages written and named.
    pub pages: IntCounter,
    /// Pages that the lane's state names.
    pub top_pages: IntGauge,
}

impl PageMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            open_runs: metrics.gauge("chronik_open_runs", "Runs of segments that lie in no page yet."),
            pages: metrics.counter("chronik_pages_total", "Pages of history that were closed."),
            top_pages: metrics.gauge("chronik_top_pages", "Pages of history that lie below no other page."),
        }
    }
}

impl ShipMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            unshipped_bytes: metrics.gauge(
                "chronik_unshipped_bytes",
                "Bytes acknowledged and not yet in a registered segment.",
            ),
            unshipped_seconds: metrics.ratio(
                "chronik_unshipped_age_seconds",
                "How long the oldest unshipped batch waits.",
            ),
            segments: metrics.counter("chronik_segments_total", "Segments registered."),
            held_segments: metrics.gauge(
                "chronik_held_segments",
                "Registered segments that the broker's state names one by one; the others are in lists of the bucket.",
            ),
            segment_bytes: metrics.counter("chronik_segment_bytes_total", "Bytes of registered segments."),
            upload_bytes: metrics.gauge(
                "chronik_upload_bytes",
                "Bytes of segments that are built and held in memory until the bucket has them: two at a time, one while \
                 uploads fail.",
            ),
            upload_failures: metrics.counter(
                "chronik_upload_failures_total",
                "Requests to the bucket of uploads and registrations that failed and were tried again.",
            ),
            checkpoint_failures: metrics.counter(
                "chronik_checkpoint_failures_total",
                "Local checkpoints that could not be written and were tried again; until one is, the write-ahead log gives \
                 no room back.",
            ),
            pending_jobs: metrics.gauge("chronik_pending_jobs", "Index jobs sent and not answered."),
            queue_visible: metrics.gauge(
                "chronik_queue_visible",
                "Messages in the job queue that wait for an indexer, every 30 s.",
            ),
            queue_in_flight: metrics.gauge(
                "chronik_queue_in_flight",
                "Messages in the job queue that indexers are working on, every 30 s.",
            ),
            queue_failures: metrics.counter(
                "chronik_queue_failures_total",
                "Sends to the job queue, and looks at it, that failed.",
            ),
            indexer_lag_seconds: metrics.ratio(
                "wal_indexer_lag_seconds",
                "How long the oldest run in a segment waits for its archive.",
            ),
            waiting_runs: metrics.gauge("chronik_waiting_runs", "Runs of segments that wait for an archive, also in pages."),
            waiting_bytes: metrics.gauge(
                "chronik_waiting_bytes",
                "Bytes of batches that wait for an archive, also in pages.",
            ),
            unreadable_runs: metrics.counter(
                "chronik_unreadable_runs_total",
                "Runs that could not be indexed and are scanned instead.",
            ),
        }
    }
}

/// Of retention.
#[derive(Clone)]
pub struct RetentionMetrics {
    /// Records that retention deleted.
    pub records: IntCounter,
    /// Bytes of their batches.
    pub bytes: IntCounter,
}

impl RetentionMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            records: metrics.counter(
                "chronik_retention_deleted_records_total",
                "Records deleted by retention.ms and retention.bytes of their topics.",
            ),
            bytes: metrics.counter(
                "chronik_retention_deleted_bytes_total",
                "Bytes of batches deleted by retention.ms and retention.bytes of their topics.",
            ),
        }
    }
}

/// Of deletion.
#[derive(Clone)]
pub struct DeletionMetrics {
    /// Objects deleted, by kind.
    pub deleted: IntCounterVec,
    /// Objects with a tombstone, not deleted yet.
    pub tombstones: IntGauge,
    /// What the last look through the bucket found.
    pub orphans: IntGauge,
    /// Level 0 segments that are not deleted.
    pub shipped_segments: IntGauge,
    /// Bytes of them.
    pub shipped_bytes: IntGauge,
    /// How long ago the oldest of them was named that is needed.
    pub needed_seconds: Gauge,
}

impl DeletionMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            deleted: metrics.counters("chronik_deleted_objects_total", "Objects deleted from the bucket.", "kind"),
            tombstones: metrics
                .gauge("chronik_tombstones", "Tombstoned objects in the bucket that wait for their deletion."),
            orphans: metrics.gauge(
                "chronik_orphans",
                "Objects unknown to the state for a day, as of the last daily scan of the bucket.",
            ),
            shipped_segments: metrics.gauge("chronik_shipped_segments", "Level 0 segments in the bucket."),
            shipped_bytes: metrics.gauge("chronik_shipped_segment_bytes", "Bytes of level 0 segments in the bucket."),
            needed_seconds: metrics.ratio(
                "chronik_needed_segment_age_seconds",
                "How old the oldest level 0 segment is that open runs or pages need; none from it on is deleted.",
            ),
        }
    }
}
