//! Answers on their way out.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Chunks that leave in one vectored write as far as the socket takes them.
#[derive(Default)]
pub struct OutgoingChunks {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl OutgoingChunks {
    pub fn extend(&mut self, chunks: Vec<Bytes>) {
        for chunk in chunks {
            if !chunk.is_empty() {
                self.bytes += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }
}

impl Buf for OutgoingChunks {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        slices.iter_mut().zip(&self.chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                return front.advance(count);
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_leave_in_order_whatever_the_socket_takes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            takes in prop::collection::vec(1usize..30, 1..20),
        ) {
            let mut outgoing = OutgoingChunks::default();
            outgoing.extend(chunks.iter().cloned().map(Bytes::from).collect());
            let mut written: Vec<u8> = Vec::new();
            for take in takes.into_iter().cycle() {
                if !outgoing.has_remaining() {
                    break;
                }
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = outgoing.chunks_vectored(&mut slices);
                let offered = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
                let taken = take.min(offered.len());
                written.extend(&offered[..taken]);
                outgoing.advance(taken);
            }
            prop_assert_eq!(written, chunks.concat());
            prop_assert_eq!(outgoing.remaining(), 0);
        }
    }
}
