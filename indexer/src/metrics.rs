use chronik_service::telemetry::Metrics;
use prometheus::{Histogram, IntCounter, IntGauge};

#[derive(Debug)]
pub(crate) struct IndexerMetrics {
    pub jobs_done: IntCounter,
    pub jobs_interrupted: IntCounter,
    pub jobs_failed: IntCounter,
    pub jobs_refused: IntCounter,
    pub runs_unreadable: IntCounter,
    pub undecodable: IntCounter,
    pub records: IntCounter,
    pub bytes_read: IntCounter,
    pub bytes_written: IntCounter,
    pub compact_reads: IntCounter,
    pub compacted_bytes: IntCounter,
    pub compactions_failed: IntCounter,
    pub merged_archives: IntCounter,
    pub merges_failed: IntCounter,
    pub job_seconds: Histogram,
    pub archive_size: IntGauge,
}

impl IndexerMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            jobs_done: metrics.counter("chronik_indexer_jobs_done_total", "Jobs with a result"),
            jobs_interrupted: metrics.counter("chronik_indexer_jobs_interrupted_total", "Tries that come again"),
            jobs_failed: metrics.counter("chronik_indexer_jobs_failed_total", "Jobs given up and reported"),
            jobs_refused: metrics.counter("chronik_indexer_jobs_refused_total", "Messages that are no known job"),
            runs_unreadable: metrics.counter("chronik_indexer_runs_unreadable_total", "Runs left without an archive"),
            undecodable: metrics.counter(
                "chronik_indexer_undecodable_total",
                "Places in archives where the batches can't be decoded by any program",
            ),
            records: metrics.counter("chronik_indexer_records_total", "Records indexed"),
            bytes_read: metrics.counter("chronik_indexer_read_bytes_total", "Bytes of the runs read"),
            bytes_written: metrics.counter("chronik_indexer_written_bytes_total", "Bytes of the archives made"),
            compact_reads: metrics.counter("chronik_indexer_compact_reads_total", "Reads of segments by compaction"),
            compacted_bytes: metrics
                .counter("chronik_indexer_compacted_bytes_total", "Bytes of batches that compaction wrote anew"),
            compactions_failed: metrics.counter(
                "chronik_indexer_compactions_failed_total",
                "Compactions that found their inputs damaged or gone",
            ),
            merged_archives: metrics
                .counter("chronik_indexer_merged_archives_total", "Archives in whose place merged ones were made"),
            merges_failed: metrics.counter(
                "chronik_indexer_merges_failed_total",
                "Jobs of merging that found their inputs damaged or gone",
            ),
            job_seconds: metrics.seconds("chronik_indexer_job_seconds", "Time from a job's start to its result"),
            archive_size: metrics.gauge("tantivy_archive_size_bytes", "Bytes of the newest archive"),
        }
    }
}
