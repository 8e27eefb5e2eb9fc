//! What the process reports about itself: log lines on standard error, metrics as text.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use prometheus::core::Collector;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::EnvFilter;

/// The media type of [`Metrics::exposition`].
pub const CONTENT_TYPE_METRICS: &str = prometheus::TEXT_FORMAT;

/// Starts logging to standard error. `CHRONIK_LOG` or else `RUST_LOG` chooses what is shown, in the syntax of
/// [`EnvFilter`]; without either it is `default`. Does nothing if logging was started before.
pub fn log_to_stderr(default: &str) {
    let wanted = std::env::var("CHRONIK_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let (filter, refused) = match wanted {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(default), Some((text, error))),
        },
        Err(_) => (EnvFilter::new(default), None),
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Unfailing(std::io::stderr()))
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let (Ok(()), Some((text, error))) = (started, refused) {
        tracing::warn!("the log filter {text:?} is not understood ({error}); using {default:?}");
    }
}

/// Where log lines go. One that can't be written, as on a full volume or where nothing reads it any more, is dropped: a
/// process does not end because of its log.
struct Unfailing<W>(W);

impl<W: Write> Write for Unfailing<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Writes a line to standard error, if that can be written to.
pub fn print_error(words: impl Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// The process's metrics: parts register theirs, `/metrics` shows all. Cloning gives another handle on the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric and hands it back. Two of one name are a mistake in the program, reported in the log; the second
    /// one then counts without being shown.
    pub fn register<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        if let Err(error) = self.registry.register(Box::new(metric.clone())) {
            tracing::error!("a metric is not shown: {error}");
        }
        metric
    }

    /// A registered counter.
    pub fn counter(&self, name: &'static str, help: &'static str) -> prometheus::IntCounter {
        self.register(named(name, prometheus::IntCounter::new(name, help)))
    }

    /// Registered counters that differ by the value of one label.
    pub fn counters(&self, name: &'static str, help: &'static str, label: &'static str) -> prometheus::IntCounterVec {
        let options = prometheus::Opts::new(name, help);
        self.register(named(name, prometheus::IntCounterVec::new(options, &[label])))
    }

    /// A registered gauge of whole numbers.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> prometheus::IntGauge {
        self.register(named(name, prometheus::IntGauge::new(name, help)))
    }

    /// A registered gauge of fractions.
    pub fn ratio(&self, name: &'static str, help: &'static str) -> prometheus::Gauge {
        self.register(named(name, prometheus::Gauge::new(name, help)))
    }

    /// A registered histogram of seconds, from 100 µs to about 26 s.
    pub fn seconds(&self, name: &'static str, help: &'static str) -> prometheus::Histogram {
        let buckets = (0..10).map(|step| 0.0001 * 4f64.powi(step)).collect();
        let options = prometheus::HistogramOpts::new(name, help).buckets(buckets);
        self.register(named(name, prometheus::Histogram::with_opts(options)))
    }

    /// All metrics in Prometheus' text format, sorted by name.
    pub fn exposition(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!("the metrics can't be shown: {error}");
            String::new()
        })
    }
}

/// A metric's name is a constant of the program: a name that Prometheus refuses fails the first test that starts.
fn named<M>(name: &'static str, made: prometheus::Result<M>) -> M {
    match made {
        Ok(metric) => metric,
        Err(error) => unreachable!("{name} is not a metric's name: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_registered_is_shown() {
        let metrics = Metrics::new();
        metrics.counter("chronik_test_total", "Counts.").inc_by(3);
        let counters = metrics.counters("chronik_test_kinds_total", "Counts each.", "kind");
        counters.with_label_values(&["one"]).inc();
        metrics.gauge("chronik_test_depth", "Measures.").set(-2);
        metrics.ratio("fetch_wal_hit_rate", "Between 0 and 1.").set(0.5);
        metrics.seconds("chronik_test_seconds", "Takes time.").observe(0.001);
        let text = metrics.clone().exposition();
        for line in [
            "# TYPE chronik_test_total counter",
            "chronik_test_total 3",
            "chronik_test_kinds_total{kind=\"one\"} 1",
            "chronik_test_depth -2",
            "fetch_wal_hit_rate 0.5",
            "chronik_test_seconds_bucket{le=\"0.0004\"} 0",
            "chronik_test_seconds_bucket{le=\"0.0016\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_second_metric_of_the_same_name_is_not_shown() {
        let metrics = Metrics::new();
        metrics.gauge("chronik_test_depth", "Measures.").set(1);
        metrics.gauge("chronik_test_depth", "Measures again.").set(2);
        assert!(metrics.exposition().contains("chronik_test_depth 1\n"));
    }
}
