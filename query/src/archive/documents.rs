//! Sets of an archive's documents.

/// A bit for each document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentSet {
    words: Vec<u64>,
    /// How many documents the archive has.
    count: u32,
}

impl DocumentSet {
    /// None of `count` documents.
    pub(super) fn none(count: u32) -> Self {
        Self { words: vec![0; (count as usize).div_ceil(64)], count }
    }

    /// All of `count` documents.
    pub(super) fn all(count: u32) -> Self {
        Self::none(count).complement()
    }

    /// Adds a document; one that the archive does not have is not added.
    pub(super) fn insert(&mut self, document: u32) {
        if document < self.count {
            self.words[(document / 64) as usize] |= 1 << (document % 64);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn complement(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        let beyond = self.count % 64;
        if let Some(last) = self.words.last_mut().filter(|_| beyond > 0) {
            *last &= (1 << beyond) - 1;
        }
        self
    }

    /// Ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.words).flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_of_documents_are_sets(
            count in 0_u32..200,
            one in prop::collection::btree_set(0_u32..210, 0..40),
            two in prop::collection::btree_set(0_u32..210, 0..40),
        ) {
            let within = |set: BTreeSet<u32>| -> BTreeSet<u32> { set.into_iter().filter(|n| *n < count).collect() };
            let bits = |set: &BTreeSet<u32>| {
                let mut documents = DocumentSet::none(count);
                set.iter().for_each(|n| documents.insert(*n));
                documents
            };
            let (first, second) = (bits(&one), bits(&two));
            let (one, two) = (within(one), within(two));
            prop_assert!(first.iter().eq(one.iter().copied()));
            prop_assert_eq!(first.is_empty(), one.is_empty());
            let mut both = first.clone();
            both.intersect(&second);
            prop_assert!(both.iter().eq(one.intersection(&two).copied()));
            let mut any = first.clone();
            any.unite(&second);
            prop_assert!(any.iter().eq(one.union(&two).copied()));
            prop_assert!(first.complement().iter().eq((0..count).filter(|n| !one.contains(n))));
            prop_assert!(DocumentSet::all(count).iter().eq(0..count));
        }
    }
}
