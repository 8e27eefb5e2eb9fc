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
        let weights = CacheShares { catalog: 1, directories: 1, tail: 2, archives: searches(3), scans: searches(1) };
        let all = weights.catalog + weights.directories + weights.tail + weights.archives + weights.scans;
        let part = |weight: usize| self.cache_memory_bytes.as_usize() / all * weight;
        CacheShares {
            catalog: part(weights.catalog),
            directories: part(weights.directories),
            tail: part(weights.tail),
            archives: part(weights.archives),
            scans: part(weights.scans),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_goes_to_who_uses_it() {
        let settings = CacheSettings { cache_memory_bytes: ByteSize::mebibytes(240) };
        for uses in [CacheUses::Broker, CacheUses::Search] {
            let shares = settings.shares(uses);
            let all = shares.catalog + shares.directories + shares.tail + shares.archives + shares.scans;
            assert_eq!(all, 240 << 20, "{uses:?}");
            assert_eq!(shares.archives == 0, uses == CacheUses::Broker, "{uses:?}");
        }
    }
}
