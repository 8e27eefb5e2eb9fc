use chronik_service::telemetry::Metrics;
use prometheus::{Histogram, IntCounter, IntGauge};

/// The metrics of searches.
#[derive(Clone, Debug)]
pub(crate) struct SearchMetrics {
    pub(crate) searches: IntCounter,
    pub(crate) incomplete: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) seconds: Histogram,
    pub(crate) archives: IntCounter,
    pub(crate) archives_failed: IntCounter,
    pub(crate) read_bytes: IntCounter,
    pub(crate) records: IntCounter,
    pub(crate) unreadable: IntCounter,
    pub(crate) cold_answer_bytes: IntGauge,
    pub(crate) http_answer_bytes: IntGauge,
}

impl SearchMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            searches: metrics.counter("chronik_search_requests_total", "Searches begun."),
            cold_answer_bytes: metrics
                .gauge("chronik_cold_answer_bytes", "Bytes of batches in answers to brokers that are not sent yet."),
            http_answer_bytes: metrics.gauge(
                "chronik_http_answer_bytes",
                "Bytes of answers with records that are in the making or not sent yet.",
            ),
            incomplete: metrics
                .counter("chronik_search_incomplete_total", "Searches that could not look at all of their range."),
            refused: metrics.counter(
                "chronik_search_refused_total",
                "Searches and reads of records refused because too many were waiting, or because answers that are not \
                 sent yet left no room.",
            ),
            seconds: metrics.seconds("chronik_search_seconds", "Time of a search, waiting included."),
            archives: metrics.counter("chronik_search_archives_total", "Archives asked for candidates."),
            archives_failed: metrics.counter(
                "chronik_search_archives_failed_total",
                "Archives that could not be used; their runs were scanned.",
            ),
            read_bytes: metrics
                .counter("chronik_search_read_bytes_total", "Bytes of batches read from segments and tail."),
            records: metrics.counter("chronik_search_records_total", "Records compared with a query."),
            unreadable: metrics.counter(
                "chronik_search_unreadable_batches_total",
                "Times a batch was unpacked in vain; it is not tried again as long as it is remembered.",
            ),
        }
    }
}
