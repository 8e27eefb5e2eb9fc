//! The head of a log file, and the names of files. All integers little-endian:
//!
//! ```text
//! magic [8] | version u32 | lane u32 | incarnation u32 | sequence u64 | first index u64 | salt u32 | crc u32
//! ```
//! `crc` is CRC-32C over everything before it; every version keeps these 44 bytes. Frames begin at
//! [`FRAMES_START`], so that writing them never touches the header's page again.

use chronik_format::ids::{Incarnation, LaneId, LogIndex};

use super::WalOptions;

/// Where a file's first frame begins.
pub(super) const FRAMES_START: u64 = 4096;
pub(super) const HEADER_BYTES: usize = 44;
/// The format this program writes and reads. Version 0 is unreleased.
pub(super) const VERSION: u32 = 0;
const MAGIC: [u8; 8] = *b"ChronikW";

/// Which file this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub version: u32,
    pub lane: LaneId,
    pub incarnation: Incarnation,
    pub sequence: u64,
    /// The index of the first frame. All frames before it are durable: that is when the header is written.
    pub first: LogIndex,
    /// Another one in each life of the file.
    pub salt: u32,
}

impl FileHeader {
    /// Of a new life of a file whose last one had `former_salt`.
    pub(super) fn begin(options: &WalOptions, sequence: u64, first: LogIndex, former_salt: Option<u32>) -> Self {
        let salt = match (options.salt)() {
            salt if Some(salt) == former_salt => salt.wrapping_add(1),
            salt => salt,
        };
        Self { version: VERSION, lane: options.lane, incarnation: options.incarnation, sequence, first, salt }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.first.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if these bytes are not a whole header; the version is the caller's to check.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        let crc = u32::from_le_bytes(field(bytes, 40));
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..40]) != crc {
            return None;
        }
        Some(Self {
            version: u32::from_le_bytes(field(bytes, 8)),
            lane: LaneId(u32::from_le_bytes(field(bytes, 12))),
            incarnation: Incarnation(u32::from_le_bytes(field(bytes, 16))),
            sequence: u64::from_le_bytes(field(bytes, 20)),
            first: u64::from_le_bytes(field(bytes, 28)),
            salt: u32::from_le_bytes(field(bytes, 36)),
        })
    }
}

/// The name of a file in the log's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileName {
    /// `{incarnation}-{sequence}.wal`: frames, in the order of the sequence.
    Log { incarnation: Incarnation, sequence: u64 },
    /// `{number}.spare`: allocated for later; what it holds means nothing.
    Spare { number: u64 },
}

impl FileName {
    /// None for names that are not the log's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let parsed = if let Some(number) = name.strip_suffix(".spare") {
            Self::Spare { number: u64::from_str_radix(number, 16).ok()? }
        } else {
            let (incarnation, sequence) = name.strip_suffix(".wal")?.split_once('-')?;
            Self::Log {
                incarnation: Incarnation(u32::from_str_radix(incarnation, 16).ok()?),
                sequence: u64::from_str_radix(sequence, 16).ok()?,
            }
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log { incarnation, sequence } => write!(f, "{incarnation}-{sequence:016x}.wal"),
            Self::Spare { number } => write!(f, "{number:016x}.spare"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_read_back_and_any_flipped_bit_is_noticed(
            lane: u32, incarnation: u32, sequence: u64, first: u64, salt: u32, bit in 0..HEADER_BYTES * 8,
        ) {
            let header = FileHeader {
                version: VERSION, lane: LaneId(lane), incarnation: Incarnation(incarnation), sequence, first, salt,
            };
            let mut bytes = header.encode();
            prop_assert_eq!(FileHeader::decode(&bytes), Some(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FileHeader::decode(&bytes), None);
        }

        #[test]
        fn names_are_read_back(incarnation: u32, sequence: u64) {
            for name in [
                FileName::Log { incarnation: Incarnation(incarnation), sequence },
                FileName::Spare { number: sequence },
            ] {
                prop_assert_eq!(FileName::parse(&name.to_string()), Some(name));
            }
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in
            ["", ".wal", "1-2.wal", "00000001-000000000000000G.wal", "00000001-0000000000000002.wal~", "+1.spare"]
        {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
