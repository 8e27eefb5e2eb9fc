//! Kafka's variable-length integers: zigzag, seven bits a byte, the lowest first.

use bytes::{BufMut, BytesMut};

/// The most bytes of an integer.
pub(super) const LENGTH_MAX: usize = 10;

/// Reads an integer of at most 64 bits; `None` if it is cut off or longer.
pub(super) fn read(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut raw = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(LENGTH_MAX) {
        let bits = u64::from(byte & 0x7f);
        if at == LENGTH_MAX - 1 && bits > 1 {
            return None;
        }
        raw |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((raw >> 1) as i64 ^ -((raw & 1) as i64), at + 1));
        }
    }
    None
}

pub(super) fn write(buffer: &mut BytesMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        buffer.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    buffer.put_u8(raw as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(value: i64, behind: Vec<u8>) {
            let mut buffer = BytesMut::new();
            write(&mut buffer, value);
            let length = buffer.len();
            buffer.extend_from_slice(&behind);
            prop_assert_eq!(read(&buffer), Some((value, length)));
            prop_assert_eq!(read(&buffer[..length - 1]), None);
        }
    }

    #[test]
    fn known_bytes() {
        for (bytes, value) in [
            (&[0u8][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0xac, 0x02], 150),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], i64::from(i32::MIN)),
        ] {
            assert_eq!(read(bytes), Some((value, bytes.len())));
        }
        assert_eq!(read(&[0xff; 10]), None);
    }
}
