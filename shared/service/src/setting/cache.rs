//! Memory that a process may use for what it could read again.

use clap::Args;

use super::ByteSize;

/// The caches.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub struct CacheSettings {
    /// Memory for what was read from the bucket, and for the newest records.
    #[arg(long, env = "CHRONIK_CACHE_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(256))]
    pub cache_memory_bytes: ByteSize,
}

/// Who gets how much of the memory for caches, bytes; nothing for what a process does not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheShares {
    /// The catalog's pages.
    pub catalog: usize,
    /// Directories of segments.
    pub directories: usize,
    /// Old records that are read ahead.
    pub ahead: usize,
    /// The newest records: a broker's for consumers, a query worker's copy of them.
    pub tail: usize,
    pub archives: usize,
    /// What is being searched through.
    pub scans: usize,
}

/// What a process does with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUses {
    /// It is a broker alone.
    Broker,
    /// It searches, beside a broker or alone.
    Search,
}

impl CacheSettings {
    /// Divides the memory among those who use it.
    pub fn shares(&self, uses: CacheUses) -> CacheShares {
        let searches = |weight: usize| if uses == CacheUses::Broker { 0 } else { weight };
        let weights =
            CacheShares { catalog: 2, directories: 1, ahead: 1, tail: 4, archives: searches(6), scans: searches(2) };
        let all = weights.sum();
        let part = |weight: usize| self.cache_memory_bytes.as_usize() / all * weight;
        CacheShares {
            catalog: part(weights.catalog),
            directories: part(weights.directories),
            ahead: part(weights.ahead),
            tail: part(weights.tail),
            archives: part(weights.archives),
            scans: part(weights.scans),
        }
    }
}

impl CacheShares {
    fn sum(&self) -> usize {
        self.catalog + self.directories + self.ahead + self.tail + self.archives + self.scans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_goes_to_who_uses_it() {
        let settings = CacheSettings { cache_memory_bytes: ByteSize::mebibytes(256) };
        for uses in [CacheUses::Broker, CacheUses::Search] {
            let shares = settings.shares(uses);
            assert_eq!(shares.sum(), 256 << 20, "{uses:?}");
            assert_eq!(shares.archives == 0, uses == CacheUses::Broker, "{uses:?}");
        }
    }
}
