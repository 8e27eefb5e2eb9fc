//! How the tool answers: tables for people, JSON for programs. Standard output carries answers only; progress and
//! errors go to standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chronik_format::batch::Record;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct CommandOutput {
    /// Whether answers are JSON.
    pub json: bool,
    /// Whether a person reads them, at a terminal.
    pub terminal: bool,
}

impl CommandOutput {
    /// Answers on standard output.
    pub fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal() }
    }

    /// One JSON document on a line of its own.
    pub fn document(&self, document: &Value) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{document}")?)
    }

    /// One line.
    pub fn line(&self, text: &str) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// A table of documents: each column is a member, with its spaces as `_`; what is null is `-`.
    pub fn rows<'a>(&self, columns: &[&str], rows: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        let cell = |row: &Value, column: &str| match &row[column.replace(' ', "_")] {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            value => shown(value),
        };
        self.table(columns, rows.into_iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()))
    }

    /// A table; at a terminal it keeps to its width.
    pub fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.add_rows(rows);
        let mut out = io::stdout().lock();
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A record as every part of the system shows it in JSON.
pub fn record_document(topic: &str, partition: i32, record: &Record) -> Value {
    let headers = record
        .headers
        .iter()
        .map(|header| json!({"key": text_of(&header.key), "value": header.value.as_deref().map(text_of)}));
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.as_deref().map(text_of),
        "value": record.value.as_deref().map(text_of),
        "headers": headers.collect::<Vec<_>>(),
    })
}

/// Bytes in JSON: a string if they are UTF-8, else `{"base64": "..."}`.
fn text_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

/// What [`text_of`] made, for people: control characters that would disturb a terminal or a table are escaped.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(shown_char).collect(),
        Value::Null => String::new(),
        Value::Object(object) => match object.get("base64").and_then(Value::as_str) {
            Some(text) => format!("base64:{text}"),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}

fn shown_char(character: char) -> String {
    match character {
        '\t' => " ".to_owned(),
        character if character.is_control() => character.escape_default().to_string(),
        character => character.to_string(),
    }
}

/// Whether an error only says that the reader of the output is gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
        && !error.chain().any(|cause| cause.is::<crate::kafka::KafkaError>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        assert_eq!(text_of("größe".as_bytes()), json!("größe"));
        assert_eq!(text_of(&[0xff, 0]), json!({"base64": "/wA="}));
        assert_eq!(shown(&text_of(&[0xff, 0])), "base64:/wA=");
    }

    #[test]
    fn a_value_cannot_move_the_cursor() {
        assert_eq!(shown(&json!("a\u{1b}[2Jb\tc\n")), "a\\u{1b}[2Jb c\\n");
    }
}
