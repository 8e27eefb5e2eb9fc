//! A year in minutes: what a broker's state, its objects and their readers come to after a long time under four loads,
//! with compaction and without. `cargo bench --bench year -- --help`.

mod history;

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::history::{Case, Limits, Report, lived};

/// What a broker comes to after a long time under four loads.
#[derive(Debug, Parser)]
struct Arguments {
    /// The loads; all if none is named.
    #[arg(long)]
    case: Vec<Case>,
    /// With compaction, or without; both if it is not said.
    #[arg(long)]
    compaction: Option<Compaction>,
    /// Days that are lived through.
    #[arg(long)]
    days: Option<u32>,
    /// Between a segment and the next, ms.
    #[arg(long)]
    segment_ms: Option<i64>,
    /// A line of JSON for each instead of a table.
    #[arg(long)]
    json: bool,
    /// Lives through one load itself, instead of having a process do it whose memory is its own.
    #[arg(long, hide = true)]
    here: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compaction {
    On,
    Off,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let cases = if arguments.case.is_empty() { Case::value_variants() } else { &arguments.case };
    if !arguments.json {
        println!("{HEAD}");
    }
    for case in cases {
        for compaction in [Compaction::Off, Compaction::On] {
            if arguments.compaction.is_some_and(|asked| asked != compaction) {
                continue;
            }
            if arguments.here {
                let load = case.load(arguments.days, arguments.segment_ms);
                println!("{}", serde_json::to_string(&lived(load, Limits::default(), compaction == Compaction::On))?);
                continue;
            }
            let started = Instant::now();
            let report = elsewhere(&arguments, *case, compaction)?;
            match arguments.json {
                true => print!("{report}"),
                false => println!("{}", row(*case, &serde_json::from_str(&report)?, started.elapsed().as_secs())),
            }
        }
    }
    Ok(())
}

/// The report of a process of its own.
fn elsewhere(arguments: &Arguments, case: Case, compaction: Compaction) -> Result<String, Box<dyn std::error::Error>> {
    let name =
        |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| value().map(|value| value.get_name().to_owned());
    let mut command = Command::new(env::current_exe()?);
    command.args(["--here", "--json"]).stderr(Stdio::inherit());
    command.args(name(&|| case.to_possible_value()).map(|name| format!("--case={name}")));
    command.args(name(&|| compaction.to_possible_value()).map(|name| format!("--compaction={name}")));
    command.args(arguments.days.map(|days| format!("--days={days}")));
    command.args(arguments.segment_ms.map(|ms| format!("--segment-ms={ms}")));
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{case:?} ended with {}", output.status).into()),
    }
}

const HEAD: &str = "\
| load | days | segments every | compacted | runs, million | pages at the top, by height | all pages, by height \
| level 0 segments | memory, MiB | checkpoint, MiB | export, KiB: mean | at most | longest turn, ms | pages: a search over a day \
| a fetch | archives a day | segments a day | written anew, times | took, s |
|---|--:|--:|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

fn row(case: Case, report: &Report, seconds: u64) -> String {
    let (kib, mib) = (|bytes: usize| bytes.div_ceil(1 << 10), |bytes: u64| bytes as f64 / f64::from(1 << 20));
    let heights = |counts: &[usize]| counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" + ");
    format!(
        "| {} | {} | {} s | {} | {:.1} | {} | {} | {} | {:.0} | {:.1} | {} | {} | {:.1} {} | {} | {} | {} | {} | {:.2} | {seconds} |",
        case.to_possible_value().map(|name| name.get_name().to_owned()).unwrap_or_default(),
        report.load.days,
        report.load.segment_ms as f64 / 1000.0,
        if report.compaction { "yes" } else { "no" },
        report.runs as f64 / 1e6,
        heights(&report.top_pages),
        heights(&report.pages),
        report.level_0_segments,
        mib(report.resident_bytes),
        mib(report.checkpoint_bytes.max as u64),
        kib(report.export_bytes.mean),
        kib(report.export_bytes.max),
        report.longest_turn_ms,
        report.longest_turn,
        report.day.pages,
        report.fetch_pages,
        report.day.archives,
        report.day.segments,
        report.compacted_bytes as f64 / report.written_bytes as f64,
    )
}
