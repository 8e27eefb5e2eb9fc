use crate::lane::tail::BatchBytes;

/// How many bytes of batches an answer may have, given out in the request's order.
pub struct AnswerBudget {
    max: usize,
    /// Room there is for them. It is more than `max`, so that a batch that does not fit is known to have been read into
    /// it.
    granted: usize,
    taken: usize,
}

impl AnswerBudget {
    /// As many bytes as the client wants, but at most `limit`. A negative number is none.
    pub fn new(max_bytes: i32, limit: usize) -> Self {
        Self { max: usize::try_from(max_bytes).unwrap_or(0).min(limit), granted: usize::MAX, taken: 0 }
    }

    /// Room to ask for where no batch has more than `batch_bytes`.
    pub fn wanted(&self, batch_bytes: usize) -> usize {
        self.max + batch_bytes
    }

    /// Keeps to the room that was given.
    pub fn keep_to(&mut self, granted: usize) {
        self.granted = granted;
        self.max = self.max.min(granted);
    }

    /// How many bytes are worth answering for: never more than the answer can have.
    pub fn enough(&self, min_bytes: i32) -> usize {
        usize::try_from(min_bytes).unwrap_or(0).min(self.max)
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Gives `taken` bytes of batches back for the `kept` bytes that they became.
    pub fn exchange(&mut self, taken: usize, kept: usize) {
        self.taken = self.taken - taken + kept;
    }

    /// Bytes that a partition may take that has so many left, and whose next batch has up to `batch_bytes`; `None` if
    /// reading it is of no use, or there is no room to look. Nothing at all has been taken: even 0 bytes are worth
    /// reading, for an answer's first batch always fits.
    pub fn room(&self, partition_bytes: usize, batch_bytes: usize) -> Option<usize> {
        let room = partition_bytes.min(self.max.saturating_sub(self.taken));
        let fits = self.granted.saturating_sub(self.taken) >= batch_bytes;
        (self.taken == 0 || room > 0 && fits).then_some(room)
    }

    /// Takes whole batches as long as they fit in `room`. An answer's first batch is taken however large it is, as a
    /// reader would never get past it.
    pub fn take(&mut self, batches: Vec<BatchBytes>, room: usize) -> Vec<BatchBytes> {
        let mut left = room;
        let fits = |batch: &BatchBytes| {
            let fits = batch.length() <= left || self.taken == 0;
            if fits {
                left = left.saturating_sub(batch.length());
                self.taken += batch.length();
            }
            fits
        };
        batches.into_iter().take_while(fits).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn batches(lengths: &[usize]) -> Vec<BatchBytes> {
        lengths.iter().map(|length| BatchBytes { head: Bytes::new(), body: vec![0; *length].into() }).collect()
    }

    fn lengths(batches: &[BatchBytes]) -> Vec<usize> {
        batches.iter().map(BatchBytes::length).collect()
    }

    #[test]
    fn the_first_batch_of_an_answer_always_fits_and_no_other_is_an_exception() {
        let mut budget = AnswerBudget::new(100, usize::MAX);
        assert_eq!(budget.room(10, 50), Some(10));
        assert_eq!(lengths(&budget.take(batches(&[50, 5]), 10)), [50]);
        assert_eq!(budget.room(80, 51), Some(50));
        assert_eq!(lengths(&budget.take(batches(&[51]), 50)), [0; 0]);
        assert_eq!(lengths(&budget.take(batches(&[20, 30, 1]), 50)), [20, 30]);
        assert_eq!((budget.room(80, 1), budget.taken()), (None, 100));
    }

    #[test]
    fn a_client_that_asks_for_nothing_gets_one_batch() {
        for max_bytes in [i32::MIN, -1, 0] {
            let mut budget = AnswerBudget::new(max_bytes, 64);
            assert_eq!((budget.room(0, 7), budget.enough(1)), (Some(0), 0));
            assert_eq!(lengths(&budget.take(batches(&[7, 7]), 0)), [7]);
            assert_eq!(budget.room(100, 7), None);
        }
    }

    #[test]
    fn what_may_not_find_room_is_not_read() {
        let mut budget = AnswerBudget::new(100, usize::MAX);
        assert_eq!(budget.wanted(30), 130);
        budget.keep_to(60);
        assert_eq!(budget.room(100, 30), Some(60));
        assert_eq!(lengths(&budget.take(batches(&[20, 20]), 60)), [20, 20]);
        assert_eq!((budget.room(100, 20), budget.room(100, 21)), (Some(20), None));
    }

    #[test]
    fn what_is_worth_waiting_for_fits_into_the_answer() {
        for (max_bytes, min_bytes, enough) in [(100, 1, 1), (100, 1_000, 64), (50, 1_000, 50), (100, -5, 0)] {
            assert_eq!(AnswerBudget::new(max_bytes, 64).enough(min_bytes), enough);
        }
    }

    proptest! {
        #[test]
        fn an_answer_stays_within_its_limit_but_for_its_first_batch(
            max_bytes in 0i32..2_000,
            partitions in prop::collection::vec((0usize..1_000, prop::collection::vec(1usize..500, 0..6)), 0..6),
        ) {
            let mut budget = AnswerBudget::new(max_bytes, 1_500);
            let mut answer: Vec<usize> = Vec::new();
            for (partition_bytes, stored) in &partitions {
                let Some(room) = budget.room(*partition_bytes, 500) else { continue };
                let taken = lengths(&budget.take(batches(stored), room));
                prop_assert!(stored.starts_with(&taken));
                let is_exception = answer.is_empty() && taken.len() == 1;
                prop_assert!(is_exception || taken.iter().sum::<usize>() <= *partition_bytes);
                answer.extend(taken);
            }
            let total = answer.iter().sum::<usize>();
            prop_assert_eq!(total, budget.taken());
            prop_assert!(answer.len() == 1 || total <= (max_bytes as usize).min(1_500));
            prop_assert_eq!(answer.is_empty(), partitions.iter().all(|(_, stored)| stored.is_empty()));
        }
    }
}
