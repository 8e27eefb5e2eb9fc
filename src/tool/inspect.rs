use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use chronik_format::{archive, catalog, segment, segment_list};
use chronik_store::setting::BucketSettings;
use chronik_store::{BucketAccess, LocalBucket, SharedStore};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::output::{CommandOutput, shown};
use crate::tool::values::not_empty;

/// `chronik segment`
#[derive(Debug, Subcommand)]
pub enum SegmentCommand {
    /// Describe a segment, and check every byte of it.
    Inspect(Box<InspectOptions>),
}

/// `chronik segment-list`
#[derive(Debug, Subcommand)]
pub enum SegmentListCommand {
    /// Describe a list of older segments, and check it.
    Inspect(Box<InspectOptions>),
}

/// `chronik archive`
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Describe an archive, and check every byte of it.
    Inspect(Box<InspectOptions>),
}

/// `chronik page`
#[derive(Debug, Subcommand)]
pub enum PageCommand {
    /// Describe a page of a topic's history, and check it.
    Inspect(Box<InspectOptions>),
}

/// An object, wherever it lies.
#[derive(Args, Debug)]
pub struct InspectOptions {
    /// A file, or an object's name in the bucket.
    #[arg(value_name = "FILE|KEY", value_parser = not_empty())]
    object: String,
    /// Directory in which a bucket on a local directory lies, unless that is set itself.
    #[arg(long, env = "CHRONIK_DATA_DIR", value_name = "DIR", default_value = "./data")]
    data_dir: PathBuf,
    #[command(flatten)]
    bucket: BucketSettings,
}

impl SegmentCommand {
    pub async fn run(self, output: &CommandOutput) -> Result<()> {
        let Self::Inspect(object) = self;
        let (store, key) = object.locate().await?;
        let description = serde_json::to_value(segment::inspect(store, &key).await?)?;
        if output.json {
            return output.document(&description);
        }
        facts(output, &description)?;
        let mut rows = Vec::new();
        for topic in description["topics"].as_array().into_iter().flatten() {
            for partition in topic["partitions"].as_array().into_iter().flatten() {
                let mut row = vec![shown(&topic["id"])];
                row.extend(COLUMNS.iter().map(|name| shown(&partition[name])));
                rows.push(row);
            }
        }
        output.line("")?;
        output.table(&["topic id", "partition", "first", "last", "batches", "position", "length"], rows)?;
        for damage in description["damage"].as_array().into_iter().flatten() {
            output.line(&format!("damaged: {}", shown(damage)))?;
        }
        Ok(())
    }
}

const COLUMNS: [&str; 6] = ["partition", "first", "last", "batches", "position", "length"];

impl SegmentListCommand {
    pub async fn run(self, output: &CommandOutput) -> Result<()> {
        let Self::Inspect(object) = self;
        let (store, key) = object.locate().await?;
        let description = serde_json::to_value(segment_list::inspect(store.as_ref(), &key).await?)?;
        if output.json {
            return output.document(&description);
        }
        facts(output, &description)?;
        let columns = ["first_index", "last_index", "size", "registered_at", "object"];
        list(output, &description, "segments", &columns)
    }
}

impl ArchiveCommand {
    pub async fn run(self, output: &CommandOutput) -> Result<()> {
        let Self::Inspect(object) = self;
        let (store, key) = object.locate().await?;
        let description = serde_json::to_value(archive::inspect(store.as_ref(), &key).await?)?;
        if output.json {
            return output.document(&description);
        }
        facts(output, &description)?;
        list(output, &description, "sections", &["name", "position", "length"])?;
        let columns = ["partition", "first", "last", "min_timestamp", "max_timestamp", "segment"];
        list(output, &description, "runs", &columns)
    }
}

impl PageCommand {
    pub async fn run(self, output: &CommandOutput) -> Result<()> {
        let Self::Inspect(object) = self;
        let (store, key) = object.locate().await?;
        let description = serde_json::to_value(catalog::inspect::inspect(store.as_ref(), &key).await?)?;
        if output.json {
            return output.document(&description);
        }
        facts(output, &description)?;
        let columns = ["partition", "first", "last", "min_timestamp", "max_timestamp", "batch_bytes", "scanned_from"];
        list(output, &description, "partitions", &columns)?;
        if description["height"] != 0 {
            let columns = ["object", "height", "level", "last_index", "run_count", "batch_bytes", "archive_count"];
            return list(output, &description, "pages", &columns);
        }
        list(output, &description, "archives", &["object", "size", "records", "runs"])?;
        let columns = ["partition", "first", "last", "min_timestamp", "max_timestamp", "position", "length", "segment"];
        list(output, &description, "runs", &columns)
    }
}

impl InspectOptions {
    /// The store that has it, opened for reading alone, and its name there.
    async fn locate(&self) -> Result<(SharedStore, String)> {
        let file = Path::new(&self.object);
        if let (true, Some(name)) = (file.is_file(), file.file_name()) {
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = name.to_str().context("the file's name is not UTF-8")?;
            return Ok((Arc::new(LocalBucket::view(directory)?), name.to_owned()));
        }
        let bucket = self.bucket.open(&self.data_dir, BucketAccess::Reader).await;
        let bucket = bucket.with_context(|| {
            format!("{} is no file, and the bucket for an object of this name can't be opened", self.object)
        })?;
        Ok((bucket, self.object.clone()))
    }
}

/// A list of a description, a row for each of its members.
fn list(output: &CommandOutput, description: &Value, name: &str, columns: &[&str]) -> Result<()> {
    let rows = description[name].as_array().into_iter().flatten();
    output.line("")?;
    output.table(columns, rows.map(|row| columns.iter().map(|name| shown(&row[*name])).collect()))
}

/// The single values of a description, one a line.
fn facts(output: &CommandOutput, description: &Value) -> Result<()> {
    let members = description.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(_, value)| !value.is_array() && !value.is_object()) {
        output.line(&format!("{:<20} {}", name.replace('_', " "), shown(value)))?;
    }
    Ok(())
}
