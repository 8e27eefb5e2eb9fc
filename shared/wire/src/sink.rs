//! Writing a body: once to measure it, once into chunks.

use bytes::{BufMut, Bytes, BytesMut};

/// Record bytes shorter than this are copied: a slice of their own in a vectored write costs more.
const SPLICE_MIN: usize = 1024;

/// What an encoded field goes into.
pub trait Sink {
    /// Copies bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Takes bytes over without copying, if that is worth it.
    fn splice(&mut self, bytes: &Bytes);

    /// An unsigned integer of seven bits a byte, lowest first.
    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }
}

/// Counts bytes.
#[derive(Default)]
pub struct LengthSink {
    /// All of them.
    pub total: usize,
    /// Those that [`FrameSink`] copies.
    pub copied: usize,
}

impl Sink for LengthSink {
    fn put(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        self.copied += bytes.len();
    }

    fn splice(&mut self, bytes: &Bytes) {
        self.total += bytes.len();
        if bytes.len() < SPLICE_MIN {
            self.copied += bytes.len();
        }
    }
}

/// Chunks for a vectored write: framing out of one allocation, long record bytes as they are.
pub struct FrameSink {
    framing: BytesMut,
    chunks: Vec<Bytes>,
}

impl FrameSink {
    /// `copied`: bytes of framing, as [`LengthSink`] counts them.
    pub fn with_capacity(copied: usize) -> Self {
        Self { framing: BytesMut::with_capacity(copied), chunks: Vec::new() }
    }

    pub fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.chunks
    }

    fn cut(&mut self) {
        if !self.framing.is_empty() {
            self.chunks.push(self.framing.split().freeze());
        }
    }
}

impl Sink for FrameSink {
    fn put(&mut self, bytes: &[u8]) {
        self.framing.put_slice(bytes);
    }

    fn splice(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_MIN {
            return self.put(bytes);
        }
        self.cut();
        self.chunks.push(bytes.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bytes_are_taken_over_and_short_ones_copied() {
        let long = Bytes::from(vec![7; SPLICE_MIN]);
        let mut length = LengthSink::default();
        let mut frames = FrameSink::with_capacity(9);
        fn write(out: &mut impl Sink, long: &Bytes) {
            out.put(b"head");
            out.splice(long);
            out.splice(&Bytes::from_static(b"short"));
        }
        write(&mut length, &long);
        write(&mut frames, &long);
        let chunks = frames.finish();
        assert_eq!((length.total, length.copied), (SPLICE_MIN + 9, 9));
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [4, SPLICE_MIN, 5]);
        assert_eq!(chunks[1].as_ptr(), long.as_ptr());
    }
}
