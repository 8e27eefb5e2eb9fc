//! Reports side by side, a column for each.

use std::fmt;
use std::time::Duration;

use crate::history::{Case, Report};

/// A figure's name and its values.
type Row = (&'static str, Vec<String>);

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a column.
    pub fn add(&mut self, case: Case, report: &Report, took: Duration) {
        let figures = figures(case, report, took);
        if self.rows.is_empty() {
            self.rows = figures.iter().map(|(name, _)| (*name, Vec::new())).collect();
        }
        for ((_, values), (_, value)) in self.rows.iter_mut().zip(figures) {
            values.push(value);
        }
    }
}

fn figures(case: Case, report: &Report, took: Duration) -> Vec<(&'static str, String)> {
    let heights = |counts: &[usize]| counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" + ");
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let kib = |bytes: usize| bytes.div_ceil(1 << 10).to_string();
    vec![
        ("load", crate::name(&case)),
        ("days", report.load.days.to_string()),
        ("seconds between segments", (report.load.segment_ms as f64 / 1000.0).to_string()),
        ("compaction", if report.compaction { "yes" } else { "no" }.to_owned()),
        ("segments shipped", report.segments.to_string()),
        ("runs in them", report.runs.to_string()),
        ("level 0 segments that are left", report.level_0_segments.to_string()),
        ("pages, by height", heights(&report.pages)),
        ("those at the top", heights(&report.top_pages)),
        ("memory, MiB", mib(report.resident_bytes)),
        ("checkpoint, MiB", mib(report.checkpoint_bytes.max as u64)),
        ("export beside pages, KiB", kib(report.export_bytes.max)),
        ("on the average", kib(report.export_bytes.mean)),
        ("longest turn, ms", format!("{:.1}", report.longest_turn_ms)),
        ("for", report.longest_turn.clone()),
        ("pages of a search over a day", report.day.pages.to_string()),
        ("pages of a fetch", report.fetch_pages.to_string()),
        ("archives of a topic and day", report.day.archives.to_string()),
        ("segments of a topic and day", report.day.segments.to_string()),
        ("written by compaction, times", format!("{:.2}", report.compacted_bytes as f64 / report.written_bytes as f64)),
        ("took, s", took.as_secs().to_string()),
    ]
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, values)) in self.rows.iter().enumerate() {
            writeln!(f, "| {name} | {} |", values.join(" | "))?;
            if number == 0 {
                writeln!(f, "|---|{}", "--:|".repeat(values.len()))?;
            }
        }
        Ok(())
    }
}
