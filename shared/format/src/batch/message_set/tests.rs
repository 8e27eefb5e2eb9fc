#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use super::*;
use crate::batch::{RecordHeader, check_produced, forged, stamp};

const LIMIT: usize = 1 << 20;

type Fields = (Timestamp, Option<Bytes>, Option<Bytes>);

/// A message as clients of its magic write it.
fn message(magic: i8, attributes: i8, (timestamp, key, value): &Fields) -> Vec<u8> {
    let mut body = vec![magic as u8, attributes as u8];
    if magic == 1 {
        body.put_i64(*timestamp);
    }
    for field in [key, value] {
        body.put_i32(field.as_ref().map_or(-1, |field| field.len() as i32));
        body.put_slice(field.as_deref().unwrap_or_default());
    }
    let mut message = 0i64.to_be_bytes().to_vec();
    message.put_i32(4 + body.len() as i32);
    message.put_u32(crc32(&body));
    message.extend(body);
    message
}

fn set(magic: i8, messages: &[Fields]) -> Vec<u8> {
    messages.iter().flat_map(|fields| message(magic, 0, fields)).collect()
}

fn compressed(magic: i8, codec: Codec, messages: &[u8]) -> Vec<u8> {
    let mut value = codec.compress(messages).unwrap();
    if codec == Codec::Lz4 && magic == 0 {
        // The checksum of the magic number, flags and block size, not of the latter two alone.
        value[6] = (XxHash32::oneshot(0, &value[..6]) >> 8) as u8;
    }
    message(magic, codec as i8, &(7, None, Some(value.into())))
}

fn fields(value: &str) -> Fields {
    (7, Some("k".into()), Some(value.to_owned().into()))
}

fn read(batch: &Bytes) -> Vec<Fields> {
    let fields = |record: Result<Record, BatchError>| record.map(|record| (record.timestamp, record.key, record.value));
    records(batch, LIMIT).unwrap().map(|record| fields(record).unwrap()).collect()
}

fn converted(set: impl Into<Bytes>) -> Result<Bytes, BatchError> {
    batch_of_messages(&set.into(), LIMIT)
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let field = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    (0i64..1 << 45, field(), field())
}

proptest! {
    #[test]
    fn messages_become_a_batch_of_the_same_codec_and_messages_again(
        messages in prop::collection::vec(any_fields(), 1..20),
        first in 0i64..1 << 40,
        skip in 0usize..20,
    ) {
        for magic in [MessageMagic::V0, MessageMagic::V1] {
            let time = |at: Timestamp| if magic == MessageMagic::V0 { -1 } else { at };
            let sent: Vec<Fields> =
                messages.iter().map(|(at, key, value)| (time(*at), key.clone(), value.clone())).collect();
            let plain = set(magic as i8, &sent);
            for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4] {
                let set = match codec {
                    Codec::None => plain.clone(),
                    codec => compressed(magic as i8, codec, &plain),
                };
                let batch = converted(set).unwrap();
                prop_assert_eq!(check_produced(&batch, LIMIT).unwrap().codec().unwrap(), codec);
                prop_assert_eq!(&read(&batch), &sent);

                let mut kept = batch.to_vec();
                stamp(&mut kept, first, 1);
                let from = first + skip as i64;
                let mut set = messages_of_batches([Bytes::from(kept)], magic, from, LIMIT, false).unwrap();
                for (offset, fields) in (first..).zip(&sent).skip(skip) {
                    prop_assert_eq!((&set[..8]).get_i64(), offset);
                    let message = Message::take(&mut set, LIMIT).unwrap();
                    prop_assert_eq!(&(message.timestamp, message.key, message.value), fields);
                    prop_assert_eq!(message.magic, magic);
                }
                prop_assert!(set.is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes: Vec<u8>) {
        fuzz_message_set(&bytes);
    }

    #[test]
    fn any_damage_is_an_error_or_other_records(
        at: prop::sample::Index,
        byte: u8,
        codec in 1usize..4,
        inner: bool,
        magic in 0i8..2,
    ) {
        let codec = Codec::ALL[codec];
        let mut messages = set(magic, &[fields("a"), fields("b")]);
        if inner {
            let at = at.index(messages.len());
            messages[at] = byte;
        }
        let mut outer = compressed(magic, codec, &messages);
        if !inner {
            // Behind the checksum, which it fits.
            let at = PREFIX_LENGTH + 4 + at.index(outer.len() - PREFIX_LENGTH - 4);
            outer[at] = byte;
            let crc = crc32(&outer[PREFIX_LENGTH + 4..]);
            outer[PREFIX_LENGTH..PREFIX_LENGTH + 4].copy_from_slice(&crc.to_be_bytes());
        }
        fuzz_message_set(&outer);
    }
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_message_is_noticed() {
    // The offset is the broker's to give, and no checksum covers it.
    let whole = set(1, &[fields("a")]);
    for at in 8..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x11;
        assert!(converted(damaged).is_err(), "byte {at}");
    }
    for cut in 0..whole.len() {
        assert!(matches!(converted(whole[..cut].to_vec()), Err(BatchError::Corrupt { .. })), "cut at {cut}");
    }
}

#[test]
fn each_rule_has_its_error() {
    let one = set(1, &[fields("a")]);
    let packed = compressed(1, Codec::Gzip, &one);
    let refused = |set: Vec<u8>| converted(set).unwrap_err();
    let invalid = |set: Vec<u8>| matches!(refused(set), BatchError::InvalidRecord { .. });
    assert!(invalid([packed.clone(), one.clone()].concat()));
    assert!(invalid([one.clone(), packed.clone()].concat()));
    assert!(invalid(compressed(1, Codec::Gzip, &packed)), "compressed within compressed");
    assert!(invalid(compressed(1, Codec::Snappy, &[])), "nothing within");
    assert!(invalid(message(1, Codec::Gzip as i8, &(7, None, None))));
    assert_eq!(refused(compressed(1, Codec::Zstd, &one)), BatchError::UnsupportedCompression { codec: 4 });
    assert_eq!(refused(message(1, 7, &fields("a"))), BatchError::UnsupportedCompression { codec: 7 });
    assert_eq!(refused(message(2, 0, &fields("a"))), BatchError::UnsupportedMagic { magic: 2 });
    assert!(matches!(refused(message(1, LOG_APPEND_TIME as i8, &fields("a"))), BatchError::InvalidTimestamp { .. }));
    let mut other = packed;
    other.truncate(other.len() - 1);
    assert!(matches!(refused(other), BatchError::Corrupt { .. }));
    let bomb = compressed(1, Codec::Gzip, &vec![0; UNPACKED_BYTES_MAX + 1]);
    assert!(matches!(refused(bomb), BatchError::Inflates { .. }));
}

#[test]
fn each_message_as_it_came_is_held_to_the_limit() {
    let messages = set(1, &[fields("a"), fields("b")]);
    let length = messages.len() / 2;
    assert!(batch_of_messages(&messages.clone().into(), length).is_ok());
    let refused = batch_of_messages(&messages.into(), length - 1);
    assert_eq!(refused, Err(BatchError::TooLarge { bytes: length, limit: length - 1 }));
    let packed = compressed(1, Codec::Gzip, &set(1, &[fields(&"a".repeat(10_000))]));
    assert!(batch_of_messages(&packed.into(), 1_000).is_ok());
}

/// A batch at an offset, with a record for each value.
fn batch(codec: Codec, attributes: i16, offset: Offset, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.set_attributes(attributes);
    let headers = [RecordHeader { key: "h".into(), value: None }];
    values.iter().for_each(|value| builder.push(7, None, Some(value.as_bytes()), &headers));
    let mut batch = builder.finish().to_vec();
    stamp(&mut batch, offset, 1);
    batch.into()
}

fn offsets(mut set: Bytes) -> Vec<Offset> {
    let mut offsets = Vec::new();
    while !set.is_empty() {
        offsets.push((&set[..8]).get_i64());
        Message::take(&mut set, LIMIT).unwrap();
    }
    offsets
}

#[test]
fn messages_end_where_they_are_full_and_begin_where_they_are_asked_for() {
    let batches = [batch(Codec::Gzip, 0, 5, &["a", "b"]), batch(Codec::None, 0, 7, &["c"])];
    let one = MessageMagic::V1.message_length() + 1;
    for (from, bytes_max, at_least_one, expected) in [
        (5, 3 * one, false, &[5, 6, 7][..]),
        (5, 3 * one - 1, false, &[5, 6]),
        (6, 3 * one, false, &[6, 7]),
        (5, one, true, &[5]),
        (6, one - 1, true, &[6]),
        (6, one - 1, false, &[]),
        (8, LIMIT, true, &[]),
    ] {
        let set = messages_of_batches(batches.clone(), MessageMagic::V1, from, bytes_max, at_least_one).unwrap();
        assert_eq!(offsets(set), expected, "{from} {bytes_max} {at_least_one}");
    }
}

#[test]
fn markers_are_left_out_and_what_can_not_be_turned_is_an_error_only_if_nothing_comes_before() {
    let plain = batch(Codec::None, 0, 5, &["a"]);
    let marker = batch(Codec::None, CONTROL, 6, &["marker"]);
    let zstd = batch(Codec::Zstd, 0, 7, &["b"]);
    let garbage = forged(&batch(Codec::Lz4, 0, 7, &["b"]), |bytes| bytes[61] ^= 0xff);
    let turned = |batches: &[&Bytes]| {
        messages_of_batches(batches.iter().copied().cloned(), MessageMagic::V0, 5, LIMIT, true).map(offsets)
    };
    assert_eq!(turned(&[&plain, &marker, &plain]), Ok(vec![5, 5]));
    assert_eq!(turned(&[&plain, &zstd]), Ok(vec![5]));
    assert_eq!(turned(&[&plain, &garbage]), Ok(vec![5]));
    assert_eq!(turned(&[&marker, &zstd]), Err(BatchError::UnsupportedCompression { codec: 4 }));
    assert!(matches!(turned(&[&garbage]), Err(BatchError::Corrupt { .. })));
}

#[test]
fn the_time_of_the_append_is_told_by_magic_1() {
    let mut set =
        messages_of_batches([batch(Codec::None, LOG_APPEND_TIME, 5, &["a"])], MessageMagic::V1, 5, LIMIT, true)
            .unwrap();
    assert_eq!(set[PREFIX_LENGTH + 5], LOG_APPEND_TIME as u8);
    assert!(matches!(Message::take(&mut set, LIMIT), Err(BatchError::InvalidTimestamp { .. })));
}
