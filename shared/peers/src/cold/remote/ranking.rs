//! Which worker is asked first: the same for the same part of a partition, so that its caches are of use, and when a
//! worker comes or goes only its own parts move (rendezvous hashing).

use chronik_format::ids::{Offset, PartitionId, TopicId};

/// Offsets of a partition that one worker reads: about a segment's worth of records of 1 KiB.
const OFFSETS_PER_PART: Offset = 1 << 16;

/// The place of `endpoints`, the first choice first, for an offset of a partition.
pub(super) fn ranking<'a>(
    endpoints: impl Iterator<Item = &'a str>,
    topic: TopicId,
    partition: PartitionId,
    offset: Offset,
) -> Vec<usize> {
    let (high, low) = topic.0.as_u64_pair();
    let part = offset.div_euclid(OFFSETS_PER_PART) as u64;
    let key = [high, low, partition as u64, part].into_iter().fold(0, mix);
    let mut ranked: Vec<(u64, usize)> =
        endpoints.enumerate().map(|(at, endpoint)| (mix(key, hash(endpoint)), at)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().map(|(_, at)| at).collect()
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finalizer of SplitMix64 over both.
fn mix(state: u64, word: u64) -> u64 {
    let mut mixed = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ENDPOINTS: [&str; 4] = ["http://10.0.0.1:8080", "http://10.0.0.2:8080", "http://10.0.0.3:8080", "http://q:1"];
    const TOPIC: TopicId = TopicId(Uuid::from_u128(5));

    fn first(endpoints: &[&'static str], partition: PartitionId, part: Offset) -> &'static str {
        let ranked = ranking(endpoints.iter().copied(), TOPIC, partition, part * OFFSETS_PER_PART);
        endpoints[ranked[0]]
    }

    #[test]
    fn work_is_spread_evenly() {
        let mut counts = [0; 4];
        for partition in 0..40 {
            for part in 0..100 {
                let chosen = first(&ENDPOINTS, partition, part);
                counts[ENDPOINTS.iter().position(|known| *known == chosen).unwrap_or(9)] += 1;
            }
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn offsets_that_lie_together_are_read_together() {
        let at = |offset| ranking(ENDPOINTS.into_iter(), TOPIC, 3, offset);
        assert_eq!(at(0), at(OFFSETS_PER_PART - 1));
        let mut all = at(7);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[test]
    fn when_a_worker_goes_only_its_own_work_moves() {
        for part in 0..1000 {
            let before = first(&ENDPOINTS, 0, part);
            let after = first(&ENDPOINTS[..3], 0, part);
            assert!(before == after || before == ENDPOINTS[3]);
        }
    }
}
