//! What the Rust programs share: requests from standard input, answers to standard output.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead};
use std::sync::mpsc::{self, Receiver};
use std::{process, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// By partition.
pub type Offsets = BTreeMap<i32, i64>;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    Create {
        topic: String,
        partitions: i32,
    },
    Describe {
        topic: String,
    },
    Delete {
        topic: String,
    },
    DeleteRecords {
        topic: String,
        #[serde(deserialize_with = "offsets")]
        before: Offsets,
    },
    Produce {
        topic: String,
        codec: String,
        idempotent: bool,
        records: Vec<Record>,
    },
    Flood {
        topic: String,
        codec: String,
        idempotent: bool,
        in_flight: i32,
    },
    Consume {
        topic: String,
        #[serde(deserialize_with = "offsets")]
        from: Offsets,
        #[serde(deserialize_with = "offsets")]
        to: Offsets,
    },
    Offsets {
        topic: String,
        partitions: i32,
        times: Vec<i64>,
    },
    Group {
        topic: String,
        group: String,
    },
    Stop,
}

#[derive(Debug, Deserialize)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// In base64.
#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        BASE64_STANDARD.decode(text).map(Bytes).map_err(D::Error::custom)
    }
}

fn offsets<'de, D: Deserializer<'de>>(source: D) -> Result<Offsets, D::Error> {
    BTreeMap::<String, i64>::deserialize(source)?
        .into_iter()
        .map(|(partition, offset)| Ok((partition.parse().map_err(D::Error::custom)?, offset)))
        .collect()
}

/// Requests that have not been carried out.
pub struct Requests(Receiver<Request>);

impl Requests {
    /// Whether the next request is there; for those that end when told.
    pub fn told_to_stop(&self) -> bool {
        self.0.try_recv().is_ok()
    }
}

/// Carries out requests, one after the other, until standard input ends.
pub fn serve(mut carry_out: impl FnMut(Request, &Requests) -> Outcome) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let request = serde_json::from_str(&line.expect("a line")).expect("a request");
            sender.send(request).expect("the program runs");
        }
        process::exit(0);
    });
    let requests = Requests(receiver);
    while let Ok(request) = requests.0.recv() {
        match carry_out(request, &requests) {
            Ok(()) => tell(json!({"done": true})),
            Err(error) => tell(json!({"error": error.to_string()})),
        }
    }
}

pub fn tell(event: Value) {
    println!("{event}");
}

/// One that was read.
pub struct Read<'a> {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl Read<'_> {
    pub fn tell(&self) {
        let headers: Vec<Value> = self.headers.iter().map(|(name, value)| json!([name, encoded(*value)])).collect();
        tell(json!({"record": {
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "key": encoded(self.key),
            "value": encoded(self.value),
            "headers": headers,
        }}));
    }
}

fn encoded(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| BASE64_STANDARD.encode(bytes))
}
