//! Memory and disk that a process may use for what it could read again.

use std::path::{Path, PathBuf};

use clap::Args;

use super::ByteSize;

/// The least that a cache on disk may have.
const DISK_BYTES_MIN: u64 = 16 << 20;

/// The caches.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Caches")]
pub struct CacheSettings {
    /// Memory for what was read from the bucket, and for the newest records.
    #[arg(long, env = "CHRONIK_CACHE_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(256))]
    pub cache_memory_bytes: ByteSize,
    /// Disk for what was read of segments and archives; it outlives a restart. 0 is none.
    #[arg(long, env = "CHRONIK_CACHE_DISK_BYTES", value_name = "SIZE", default_value_t = ByteSize(0), value_parser = disk_bytes)]
    pub cache_disk_bytes: ByteSize,
    /// Where on disk that is [default: cache in the data directory].
    #[arg(long, env = "CHRONIK_CACHE_DISK_DIR", value_name = "DIR")]
    pub cache_disk_dir: Option<PathBuf>,
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
    /// Where the cache on disk is, and how many bytes it may take; `None` without one.
    pub fn disk(&self, data_dir: &Path) -> Option<(PathBuf, u64)> {
        let directory = || self.cache_disk_dir.clone().unwrap_or_else(|| data_dir.join("cache"));
        (self.cache_disk_bytes.0 > 0).then(|| (directory(), self.cache_disk_bytes.0))
    }

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

fn disk_bytes(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(bytes) if (1..DISK_BYTES_MIN).contains(&bytes.0) => Err(format!(
            "{bytes} is too little; accepted are 0, for no cache on disk, and {} or more",
            ByteSize(DISK_BYTES_MIN)
        )),
        bytes => bytes.map_err(|error| error.to_string()),
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
        let settings = CacheSettings { cache_memory_bytes: ByteSize::mebibytes(256), ..Default::default() };
        for uses in [CacheUses::Broker, CacheUses::Search] {
            let shares = settings.shares(uses);
            assert_eq!(shares.sum(), 256 << 20, "{uses:?}");
            assert_eq!(shares.archives == 0, uses == CacheUses::Broker, "{uses:?}");
        }
    }

    #[test]
    fn a_cache_on_disk_is_none_or_has_room() {
        assert_eq!(disk_bytes("0"), Ok(ByteSize(0)));
        assert_eq!(disk_bytes("16MiB"), Ok(ByteSize::mebibytes(16)));
        assert!(disk_bytes("1MiB").is_err_and(|told| told.contains("16MiB or more")));
        assert!(disk_bytes("much").is_err_and(|told| told.contains("not a size")));
        let data_dir = Path::new("data");
        let mut settings = CacheSettings::default();
        assert_eq!(settings.disk(data_dir), None);
        settings.cache_disk_bytes = ByteSize::mebibytes(16);
        assert_eq!(settings.disk(data_dir), Some(("data/cache".into(), 16 << 20)));
        settings.cache_disk_dir = Some("elsewhere".into());
        assert_eq!(settings.disk(data_dir), Some(("elsewhere".into(), 16 << 20)));
    }
}
