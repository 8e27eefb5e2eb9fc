//! A year in minutes: what a broker's state, its objects and their readers come to after a long time under four loads,
//! with compaction and without. `cargo bench --bench year -- --help`.

mod history;
mod table;

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::history::{Case, Limits, lived};
use self::table::Table;

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
    let compactions = arguments.compaction.as_ref().map_or(Compaction::value_variants(), std::slice::from_ref);
    let mut table = Table::default();
    for (case, compaction) in
        cases.iter().flat_map(|case| compactions.iter().map(move |compaction| (*case, *compaction)))
    {
        if arguments.here {
            let load = case.load(arguments.days, arguments.segment_ms);
            println!("{}", serde_json::to_string(&lived(load, Limits::default(), compaction == Compaction::On))?);
            continue;
        }
        let started = Instant::now();
        let report = elsewhere(&arguments, case, compaction)?;
        match arguments.json {
            true => print!("{report}"),
            false => table.add(case, &serde_json::from_str(&report)?, started.elapsed()),
        }
    }
    print!("{table}");
    Ok(())
}

/// The report of a process of its own.
fn elsewhere(arguments: &Arguments, case: Case, compaction: Compaction) -> Result<String, Box<dyn std::error::Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--here", "--case", &name(&case), "--compaction", &name(&compaction)]).stderr(Stdio::inherit());
    command.args(arguments.days.map(|days| format!("--days={days}")));
    command.args(arguments.segment_ms.map(|ms| format!("--segment-ms={ms}")));
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{case:?} ended with {}", output.status).into()),
    }
}

/// As it is written on the command line.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
