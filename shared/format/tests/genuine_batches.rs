//! Batches of genuine clients, in all codecs, can be read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, HEADER_LENGTH, Record, records, verify};

const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

#[test]
fn genuine_batches_decode_and_uncompressed_ones_come_out_of_the_builder_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/batches");
    let mut by_codec = [0; 5];
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "bin") {
            continue;
        }
        let batch = Bytes::from(std::fs::read(&file).unwrap());
        let header = verify(&batch).unwrap();
        let codec = header.codec().unwrap();
        let read: Vec<Record> = records(&batch, DECOMPRESSED_BYTES_MAX)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_eq!(read.len(), header.record_count as usize, "{file:?}");
        assert_eq!(read.last().map(|record| record.offset), Some(header.last_offset()), "{file:?}");
        if codec == Codec::None && !header.is_log_append_time() {
            let mut builder = BatchBuilder::new(Codec::None);
            for record in &read {
                builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
            }
            assert_eq!(builder.finish()[HEADER_LENGTH..], batch[HEADER_LENGTH..], "{file:?}");
        }
        by_codec[codec as usize] += 1;
    }
    assert!(by_codec.iter().all(|count| *count >= 8), "{by_codec:?}");
}
