//! The five ways in which Kafka compresses the records of a batch.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read, Write};

use bytes::Bytes;
use zstd::zstd_safe::{DCtx, ResetDirective};

use super::BatchError;

/// How the records of a batch are compressed; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// One or more gzip members.
    Gzip = 1,
    /// A raw snappy block, or blocks in the framing of snappy-java.
    Snappy = 2,
    /// An lz4 frame.
    Lz4 = 3,
    /// A zstd frame.
    Zstd = 4,
}

/// How snappy-java starts a stream; a version and the oldest compatible one follow, each an i32.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LENGTH: usize = 16;
/// Bytes of an uncompressed block that snappy-java writes.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Bytes that a decoder is asked for at once.
const PIECE_BYTES: usize = 64 * 1024;
/// A snappy copy element makes at most 64 bytes of 3.
const SNAPPY_RATIO_MAX: usize = 22;

impl Codec {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// From the attributes of a batch, whose lowest three bits name it.
    pub(super) fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & 0x07 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            codec => Err(BatchError::UnsupportedCompression { codec }),
        }
    }

    /// The records as they are without compression, refused beyond `limit` bytes. Memory grows with what really comes
    /// out, not with what the data claims.
    pub(super) fn decompress(self, body: Bytes, limit: usize) -> Result<Bytes, BatchError> {
        match self {
            Self::None if body.len() > limit => Err(BatchError::Inflates { limit }),
            Self::None => Ok(body),
            Self::Snappy => unsnap(&body, limit),
            Self::Gzip | Self::Lz4 | Self::Zstd => {
                drain(self.reader(&body, limit, &mut BatchUnpacker::default())?, limit)
            }
        }
    }

    /// Whether the records decompress, to at most `limit` bytes; only a piece of them is held. Snappy is taken at its
    /// word.
    pub(super) fn check(self, body: &[u8], limit: usize) -> Result<(), BatchError> {
        let length = match self {
            Self::Snappy => snappy_blocks(body).try_fold(0, |sum, block| Ok(sum + block?.1))?,
            _ => {
                let mut unpacker = BatchUnpacker::default();
                let decoder = self.reader(body, limit, &mut unpacker)?;
                io::copy(&mut decoder.take(limit as u64 + 1), &mut io::sink()).map_err(damaged)? as usize
            }
        };
        if length > limit { Err(BatchError::Inflates { limit }) } else { Ok(()) }
    }

    /// The records as they are without compression, piece by piece; only snappy's are unpacked at once, and refused
    /// beyond `limit` bytes.
    pub(super) fn reader<'a>(
        self,
        body: &'a [u8],
        limit: usize,
        unpacker: &'a mut BatchUnpacker,
    ) -> Result<BufReader<Box<dyn Read + 'a>>, BatchError> {
        let decoder: Box<dyn Read> = match self {
            Self::None => Box::new(body),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
            Self::Snappy => Box::new(Cursor::new(unsnap(body, limit)?)),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_context(body, unpacker.zstd()?)),
        };
        Ok(BufReader::with_capacity(PIECE_BYTES, decoder))
    }

    /// The records compressed as the Java client would.
    pub(super) fn compress(self, records: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(records.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()
            }
            Self::Snappy => snap(records),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::stream::encode_all(records, 0),
        }
    }
}

/// Unpacks one batch after the other. It keeps what zstd works with, which takes longer to make than a small batch to
/// unpack.
#[derive(Default)]
pub struct BatchUnpacker {
    zstd: Option<DCtx<'static>>,
}

impl fmt::Debug for BatchUnpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchUnpacker").finish_non_exhaustive()
    }
}

impl BatchUnpacker {
    fn zstd(&mut self) -> Result<&mut DCtx<'static>, BatchError> {
        let zstd = self.zstd.get_or_insert_with(DCtx::create);
        // The batch before may not have been read to its end.
        zstd.reset(ResetDirective::SessionOnly)
            .map_err(|code| damaged(io::Error::other(zstd::zstd_safe::get_error_name(code))))?;
        Ok(zstd)
    }
}

fn damaged(_: impl std::error::Error) -> BatchError {
    BatchError::Corrupt { reason: "its records do not decompress" }
}

fn drain(decoder: impl Read, limit: usize) -> Result<Bytes, BatchError> {
    let mut records = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut records).map_err(damaged)?;
    if records.len() > limit { Err(BatchError::Inflates { limit }) } else { Ok(records.into()) }
}

fn unsnap(body: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let mut records = Vec::new();
    for block in snappy_blocks(body) {
        let (block, length) = block?;
        let from = records.len();
        if length > limit - from {
            return Err(BatchError::Inflates { limit });
        }
        records.resize(from + length, 0);
        let written = snap::raw::Decoder::new().decompress(block, &mut records[from..]).map_err(damaged)?;
        records.truncate(from + written);
    }
    Ok(records.into())
}

/// The blocks, and how many bytes each claims to have without compression; ends after the first error.
fn snappy_blocks(body: &[u8]) -> impl Iterator<Item = Result<(&[u8], usize), BatchError>> {
    let is_framed = body.starts_with(&XERIAL_MAGIC);
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let mut body = rest.take()?;
        let block = if is_framed { next_block(&mut body).transpose()? } else { Ok(body) };
        rest = block.as_ref().ok().filter(|_| is_framed).map(|_| body);
        Some(block.and_then(|block| Ok((block, claimed_length(block)?))))
    })
}

/// Takes the next block out of snappy-java's framing; `None` at the end.
fn next_block<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    while rest.starts_with(&XERIAL_MAGIC) {
        *rest = rest.get(XERIAL_HEADER_LENGTH..).ok_or(BatchError::CUT_OFF)?;
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, blocks) = rest.split_first_chunk::<4>().ok_or(BatchError::CUT_OFF)?;
    let (block, behind) = blocks.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(BatchError::CUT_OFF)?;
    *rest = behind;
    Ok(Some(block))
}

fn claimed_length(block: &[u8]) -> Result<usize, BatchError> {
    let length = snap::raw::decompress_len(block).map_err(damaged)?;
    if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(BatchError::Corrupt { reason: "a snappy block claims more than it can hold" });
    }
    Ok(length)
}

fn snap(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut framed = XERIAL_MAGIC.to_vec();
    framed.extend_from_slice(&1i32.to_be_bytes());
    framed.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        framed.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        framed.extend_from_slice(&compressed);
    }
    Ok(framed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(records: Vec<u8>, repeat in 1usize..200) {
            let records = records.repeat(repeat);
            for codec in Codec::ALL {
                let body = Bytes::from(codec.compress(&records).unwrap());
                prop_assert_eq!(&codec.decompress(body, LIMIT).unwrap()[..], &records[..]);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_stay_below_the_limit(body: Vec<u8>, limit in 0usize..4096) {
            for codec in Codec::ALL {
                let (checked, read) = (codec.check(&body, limit), codec.decompress(Bytes::from(body.clone()), limit));
                let is_taken_at_its_word = codec == Codec::Snappy && checked.is_ok();
                prop_assert!(is_taken_at_its_word || checked.is_ok() == read.is_ok(), "{codec:?} {checked:?} {read:?}");
                if let Ok(records) = codec.decompress(Bytes::from(body.clone()), limit) {
                    prop_assert!(records.len() <= limit);
                }
            }
        }

        #[test]
        fn damage_is_an_error_or_other_bytes_never_a_panic(records: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            for codec in Codec::ALL {
                let mut body = codec.compress(&records).unwrap();
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] ^= flip;
                }
                let _ = codec.decompress(Bytes::from(body), LIMIT);
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let records = vec![0; 64 << 20];
        for codec in Codec::ALL {
            let bomb = Bytes::from(codec.compress(&records).unwrap());
            assert_eq!(codec.decompress(bomb, LIMIT), Err(BatchError::Inflates { limit: LIMIT }), "{codec:?}");
        }
    }

    #[test]
    fn a_snappy_block_may_come_without_framing() {
        let raw = snap::raw::Encoder::new().compress_vec(b"as librdkafka does it").unwrap();
        assert_eq!(&Codec::Snappy.decompress(raw.into(), LIMIT).unwrap()[..], b"as librdkafka does it");
    }

    #[test]
    fn a_snappy_length_is_not_believed() {
        let claims_a_gigabyte = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x04, 0]);
        assert!(matches!(Codec::Snappy.decompress(claims_a_gigabyte, usize::MAX), Err(BatchError::Corrupt { .. })));
    }

    #[test]
    fn gzip_members_are_joined() {
        let mut members = Codec::Gzip.compress(b"one ").unwrap();
        members.extend(Codec::Gzip.compress(b"two").unwrap());
        assert_eq!(&Codec::Gzip.decompress(members.into(), LIMIT).unwrap()[..], b"one two");
    }
}
