//! What a partition's leader epochs say about offsets. An epoch list has (epoch, its first offset), ascending.
//!
//! The rules are those of Kafka's `LeaderEpochFileCache`.

use chronik_format::ids::Offset;

/// The epoch of the record at an offset; of one past the last record, the current epoch.
pub fn epoch_at(epochs: &[(i32, Offset)], offset: Offset) -> Option<i32> {
    let before = epochs.partition_point(|(_, first)| *first <= offset);
    before.checked_sub(1).map(|at| epochs[at].0)
}

/// The largest epoch up to `asked` and the offset after its last record; `None` if `asked` is no epoch of this
/// partition's past.
pub fn end_of_epoch(epochs: &[(i32, Offset)], end: Offset, asked: i32) -> Option<(i32, Offset)> {
    let (latest, _) = *epochs.last()?;
    if asked < 0 || asked > latest {
        return None;
    }
    if asked == latest {
        return Some((latest, end));
    }
    let next = epochs.partition_point(|(epoch, _)| *epoch <= asked);
    let (_, ends_at) = *epochs.get(next)?;
    let epoch = next.checked_sub(1).map_or(asked, |at| epochs[at].0);
    Some((epoch, ends_at))
}

/// What a reader believes that read up to an offset in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochAgreement {
    /// The partition's past has the same.
    Agreed,
    /// The reader read what is not there; this is the epoch, and the offset after it, up to which both may agree.
    Diverged(i32, Offset),
    /// There is nothing to compare with.
    Unknown,
}

/// Compares a reader's last epoch and next offset with the partition's past.
pub fn compare(epochs: &[(i32, Offset)], end: Offset, last_epoch: i32, next_offset: Offset) -> EpochAgreement {
    match end_of_epoch(epochs, end, last_epoch) {
        None => EpochAgreement::Unknown,
        Some((epoch, ends_at)) if epoch < last_epoch || ends_at < next_offset => {
            EpochAgreement::Diverged(epoch, ends_at)
        }
        Some(_) => EpochAgreement::Agreed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch 2 has 0 to 9, epoch 5 has 10 to 24, epoch 6 has 25 to 29.
    const EPOCHS: &[(i32, Offset)] = &[(2, 0), (5, 10), (6, 25)];
    const END: Offset = 30;

    #[test]
    fn an_offset_belongs_to_the_epoch_that_began_last() {
        for (offset, epoch) in [(0, Some(2)), (9, Some(2)), (10, Some(5)), (24, Some(5)), (29, Some(6)), (30, Some(6))]
        {
            assert_eq!(epoch_at(EPOCHS, offset), epoch, "{offset}");
        }
        assert_eq!(epoch_at(EPOCHS, -1), None);
        assert_eq!(epoch_at(&[], 0), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        for (asked, end) in [
            (-1, None),
            (0, Some((0, 0))),
            (2, Some((2, 10))),
            (3, Some((2, 10))),
            (5, Some((5, 25))),
            (6, Some((6, 30))),
            (7, None),
        ] {
            assert_eq!(end_of_epoch(EPOCHS, END, asked), end, "{asked}");
        }
        assert_eq!(end_of_epoch(&[], END, 0), None);
    }

    #[test]
    fn readers_of_another_past_are_told_where_it_forked() {
        for (epoch, offset, agreement) in [
            (6, 30, EpochAgreement::Agreed),
            (6, 31, EpochAgreement::Diverged(6, 30)),
            (5, 25, EpochAgreement::Agreed),
            (5, 26, EpochAgreement::Diverged(5, 25)),
            (4, 3, EpochAgreement::Diverged(2, 10)),
            (9, 3, EpochAgreement::Unknown),
        ] {
            assert_eq!(compare(EPOCHS, END, epoch, offset), agreement, "{epoch} {offset}");
        }
    }
}
