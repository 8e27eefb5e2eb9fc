//! From consecutive pieces of a run, cut anywhere, to its batches.

use bytes::{Buf, Bytes, BytesMut};

use chronik_format::batch::{BATCH_BYTES_MAX, BatchHeader, HEADER_LENGTH};
use chronik_format::ids::Offset;
use chronik_format::segment::certain;

/// A batch and its last offset.
pub(super) type PlacedBatch = (Offset, Bytes);

/// Takes pieces in their order.
#[derive(Debug)]
pub(super) struct RunCutter {
    /// Base offset of the next batch.
    next: Offset,
    /// The start of a batch whose end lies in the next piece.
    begun: BytesMut,
}

impl RunCutter {
    /// The first piece begins with the batch whose base offset is `next`.
    pub(super) fn new(next: Offset) -> Self {
        Self { next, begun: BytesMut::new() }
    }

    /// Bytes of a batch that has not come out.
    pub(super) fn begun_bytes(&self) -> usize {
        self.begun.len()
    }

    /// The batches that end in the next piece, if all that it holds is [certain]; `None` otherwise, and then nothing
    /// that follows can be told. `last` is the last offset of a run that ends with the piece.
    pub(super) fn cut(
        &mut self,
        mut piece: Bytes,
        last: Option<Offset>,
        has_epoch: impl Fn(Offset, i32) -> bool,
    ) -> Option<Vec<PlacedBatch>> {
        let mut batches = Vec::new();
        if !self.begun.is_empty() {
            self.go_on(&mut piece, HEADER_LENGTH);
            if let Some(length) = self.length_begun() {
                self.go_on(&mut piece, length);
                if self.begun.len() == length {
                    let whole = std::mem::take(&mut self.begun).freeze();
                    batches.push(self.take(certain(whole, self.next, &has_epoch).next()?));
                }
            }
        }
        if self.begun.is_empty() {
            for batch in certain(piece.clone(), self.next, &has_epoch) {
                piece.advance(batch.1.len());
                batches.push(self.take(batch));
            }
            self.begun.extend_from_slice(&piece);
        }
        let holds = match last {
            Some(last) => self.begun.is_empty() && self.next == last + 1,
            None => self.may_end_later(),
        };
        holds.then_some(batches)
    }

    fn take(&mut self, (header, batch): (BatchHeader, Bytes)) -> PlacedBatch {
        self.next = header.last_offset().saturating_add(1);
        (header.last_offset(), batch)
    }

    /// Fills up what was begun to a length, as far as the piece goes.
    fn go_on(&mut self, piece: &mut Bytes, length: usize) {
        let missing = length.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&piece.split_to(missing.min(piece.len())));
    }

    fn length_begun(&self) -> Option<usize> {
        BatchHeader::parse(&self.begun).ok().map(|header| header.total_length())
    }

    /// Whether what was begun may be a batch whose end is still to come.
    fn may_end_later(&self) -> bool {
        let lengths = self.begun.len() + 1..=BATCH_BYTES_MAX;
        self.begun.len() < HEADER_LENGTH || self.length_begun().is_some_and(|length| lengths.contains(&length))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_format::batch::{BatchBuilder, Codec, stamp};
    use proptest::prelude::*;

    use super::*;

    const FIRST: Offset = 100;

    /// Batches with values of these lengths, two records each.
    fn batches(lengths: &[usize]) -> Vec<Bytes> {
        let batch = |(number, length): (i64, &usize)| {
            let mut builder = BatchBuilder::new(Codec::None);
            let value = vec![number as u8; *length];
            builder.push(number, None, Some(&value), &[]);
            builder.push(number, None, None, &[]);
            let mut batch = BytesMut::from(&builder.finish()[..]);
            stamp(&mut batch, FIRST + 2 * number, 7);
            batch.freeze()
        };
        (0..).zip(lengths).map(batch).collect()
    }

    /// What comes out of a run that is cut at these places.
    fn cut(run: &Bytes, last: Offset, places: &[usize]) -> Option<Vec<PlacedBatch>> {
        let mut ends: Vec<_> = places.iter().map(|place| place % run.len()).filter(|end| *end > 0).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.push(run.len());
        let (mut cutter, mut start, mut batches) = (RunCutter::new(FIRST), 0, Vec::new());
        for end in ends {
            let last = (end == run.len()).then_some(last);
            batches.extend(cutter.cut(run.slice(start..end), last, |_, epoch| epoch == 7)?);
            start = end;
        }
        Some(batches)
    }

    proptest! {
        #[test]
        fn pieces_give_the_batches_of_the_whole(
            lengths in prop::collection::vec(0..300usize, 1..8),
            places in prop::collection::vec(0..100_000usize, 0..6),
        ) {
            let batches = batches(&lengths);
            let last = FIRST + 2 * batches.len() as i64 - 1;
            let found = cut(&batches.concat().into(), last, &places).unwrap();
            let expected = batches.into_iter().zip((FIRST + 1..).step_by(2));
            prop_assert_eq!(found, expected.map(|(batch, last)| (last, batch)).collect::<Vec<_>>());
        }

        #[test]
        fn no_changed_byte_comes_out(
            lengths in prop::collection::vec(0..60usize, 1..4),
            places in prop::collection::vec(0..100_000usize, 0..4),
            at in 0..100_000usize,
            bit in 0..8,
        ) {
            let batches = batches(&lengths);
            let mut run = batches.concat();
            let at = at % run.len();
            run[at] ^= 1u8 << bit;
            let last = FIRST + 2 * batches.len() as i64 - 1;
            prop_assert_eq!(cut(&run.into(), last, &places), None);
        }
    }

    #[test]
    fn a_run_ends_where_the_catalog_says() {
        let run: Bytes = batches(&[10, 20]).concat().into();
        assert!(cut(&run, FIRST + 3, &[]).is_some());
        for last in [FIRST + 1, FIRST + 2, FIRST + 4] {
            assert_eq!(cut(&run, last, &[]), None);
        }
        assert_eq!(cut(&run.slice(..run.len() - 1), FIRST + 3, &[]), None);
    }

    #[test]
    fn a_batch_longer_than_any_is_not_waited_for() {
        let mut batch = batches(&[10])[0].to_vec();
        batch[8..12].copy_from_slice(&(BATCH_BYTES_MAX as i32).to_be_bytes());
        assert_eq!(RunCutter::new(FIRST).cut(batch.into(), None, |_, epoch| epoch == 7), None);
    }
}
