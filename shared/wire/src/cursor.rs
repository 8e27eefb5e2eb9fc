//! Reading a body: every length is checked against the bytes that are there before anything is allocated for it.

use bytes::{Buf, Bytes};

/// The most array elements one message may have. A frame can hold elements of two bytes that take a
/// hundred in memory; this bounds what such a frame costs.
const ELEMENTS_MAX: usize = 1 << 20;

/// Bytes of the longest string that every version of a message can carry.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field goes beyond the end of what holds it.
    #[error("{needed} bytes needed where {left} are left")]
    Truncated {
        /// Bytes the field takes.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// An array says it has more elements than there are bytes, or than one message may have.
    #[error("an array of {count} elements where {left} can be")]
    TooManyElements {
        /// Elements the array says it has.
        count: usize,
        /// Elements it could have.
        left: usize,
    },
    /// A null where this version of the message has none.
    #[error("null in a field that can't be null")]
    UnexpectedNull,
    /// A string that only a version with compact lengths could carry; Kafka refuses it too.
    #[error("a string of {length} bytes, where {STRING_BYTES_MAX} are possible")]
    StringTooLong {
        /// Its bytes.
        length: usize,
    },
    /// A variable-length integer of more than 32 bits.
    #[error("a variable-length integer of more than 32 bits")]
    VarintTooLong,
    /// A version that the schema does not describe.
    #[error("{api} v{version} is not supported")]
    UnsupportedVersion {
        /// The API asked for.
        api: crate::ApiKey,
        /// The version asked for.
        version: i16,
    },
}

/// A position in a body, and how many array elements may still come.
pub struct BodyCursor {
    bytes: Bytes,
    elements_left: usize,
}

impl BodyCursor {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, elements_left: ELEMENTS_MAX }
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// What has not been read.
    pub fn into_rest(self) -> Bytes {
        self.bytes
    }

    /// The next `length` bytes, as a slice of the frame.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    /// What is not UTF-8 becomes U+FFFD, as with Kafka: some clients put any bytes beside a committed offset.
    pub fn string(&mut self, length: usize) -> Result<String, DecodeError> {
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::StringTooLong { length });
        }
        self.need(length)?;
        let text = String::from_utf8_lossy(&self.bytes[..length]).into_owned();
        self.bytes.advance(length);
        Ok(text)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let mut array = [0; N];
        self.bytes.copy_to_slice(&mut array);
        Ok(array)
    }

    /// An unsigned integer of seven bits a byte, lowest first.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Accounts for an array of `count` elements. No element takes less than a byte.
    pub fn elements(&mut self, count: usize) -> Result<(), DecodeError> {
        let left = self.elements_left.min(self.remaining());
        if count > left {
            return Err(DecodeError::TooManyElements { count, left });
        }
        self.elements_left -= count;
        Ok(())
    }

    /// Reads from the next `length` bytes alone and goes on after them.
    pub fn within<T>(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut inner = Self { bytes: self.take(length)?, elements_left: self.elements_left };
        let value = read(&mut inner)?;
        self.elements_left = inner.elements_left;
        Ok(value)
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.remaining();
        if needed > left { Err(DecodeError::Truncated { needed, left }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn cursor(bytes: &'static [u8]) -> BodyCursor {
        BodyCursor::new(Bytes::from_static(bytes))
    }

    #[test]
    fn varints_end_at_32_bits() {
        for (bytes, value) in [
            (&[0x00][..], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(DecodeError::VarintTooLong)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Err(DecodeError::VarintTooLong)),
            (&[0x80], Err(DecodeError::Truncated { needed: 1, left: 0 })),
        ] {
            assert_eq!(BodyCursor::new(Bytes::copy_from_slice(bytes)).uvarint(), value, "{bytes:x?}");
        }
    }

    #[test]
    fn elements_are_bounded_by_bytes_and_by_message() {
        assert_eq!(cursor(b"abc").elements(3), Ok(()));
        assert_eq!(cursor(b"abc").elements(4), Err(DecodeError::TooManyElements { count: 4, left: 3 }));
        let mut long = BodyCursor::new(Bytes::from(vec![0; ELEMENTS_MAX + 2]));
        assert_eq!(long.elements(ELEMENTS_MAX), Ok(()));
        assert_eq!(long.elements(1), Err(DecodeError::TooManyElements { count: 1, left: 0 }));
    }

    #[test]
    fn an_inner_range_spends_the_same_budget_and_can_not_reach_out() {
        let mut outer = cursor(b"abcdef");
        let inner = outer.within(2, |inner| {
            inner.elements(2)?;
            assert_eq!(inner.take(3), Err(DecodeError::Truncated { needed: 3, left: 2 }));
            inner.take(1)
        });
        assert_eq!(inner.unwrap(), "a");
        assert_eq!(outer.elements_left, ELEMENTS_MAX - 2);
        assert_eq!(outer.into_rest(), "cdef");
    }
}
