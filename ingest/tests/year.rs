//! Some days of each load of the benchmark `year`, with limits as much smaller as there is less of it: what is bounded
//! keeps to its bounds, and hardly grows any more.

#[path = "../benches/year/history/mod.rs"]
mod history;

use chronik_ingest::publish::pages::PageLimits;
use chronik_ingest::publish::segment_lists::SegmentListLimits;

use self::history::{Case, Limits, Load, Report, lived};

const DAYS: u32 = 8;
const FAN_OUT: usize = 8;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Of a topic and a day, once that is compacted.
const SEGMENTS_MAX: usize = 50;
const ARCHIVES_MAX: usize = 30;

fn limits() -> Limits {
    let lists = SegmentListLimits { listed: 64, unlisted: 128 };
    let pages =
        PageLimits { page_runs: 512, open_runs: 1024, waiting_runs: 1024, fan_out: FAN_OUT, ..PageLimits::default() };
    Limits { pages, lists }
}

/// A load with segments so far apart, whose runs are as large as ever.
fn thinned(case: Case, segment_ms: i64) -> Load {
    Load { run_bytes: case.load(None, None).run_bytes, ..case.load(Some(DAYS), Some(segment_ms)) }
}

/// What grew with the history would be twice as large after twice the time.
fn check(load: Load) {
    for compaction in [false, true] {
        let report = lived(load, limits(), compaction);
        println!("{report:?}");
        let Report { top_pages, pages, fetch_pages, day, checkpoint_bytes, export_bytes, level_0_segments, .. } =
            &report;
        assert!(top_pages.iter().all(|pages| *pages < 2 * FAN_OUT * load.topics as usize));
        assert!(*fetch_pages <= pages.len());
        assert!(!compaction || (day.segments <= SEGMENTS_MAX && day.archives <= ARCHIVES_MAX));
        let of_a_day = DAY_MS / load.segment_ms;
        assert!(!compaction || *level_0_segments as i64 <= 2 * of_a_day, "older ones are needed by nothing");
        for sizes in [checkpoint_bytes, export_bytes] {
            assert!(sizes.max < sizes.max_by_half * 3 / 2, "{sizes:?}");
        }
    }
}

#[test]
fn a_hundred_partitions() {
    check(thinned(Case::Hundred, 600_000));
}

#[test]
fn many_topics_that_trickle() {
    check(Load { topics: 60, one_of: 3, ..thinned(Case::Trickle, 600_000) });
}

#[test]
fn a_thousand_partitions() {
    check(Load { partitions: 1000, ..thinned(Case::Wide, 3_600_000) });
}

#[test]
fn a_busy_topic() {
    check(thinned(Case::Busy, 600_000));
}
