//! File handles: how many the process may have, and how many of them clients.
//!
//! A socket is a file handle. Without a limit on clients they take what the write-ahead log and the bucket need, and a
//! log that can't open its next file is the end of the broker.

/// Handles kept back for the log, the bucket, other services, and HTTP while there are few.
const KEPT: u64 = 384;
/// With so many handles HTTP has all that it may have, apart from those.
const PLENTY: u64 = 8192;
/// HTTP connections at a time, at most.
const HTTP_MAX: u64 = 1024;

/// Raises the number of files that this process may open as far as it may by itself.
pub fn raise() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::info!(files, clients = for_clients_of(files), "file handles that this process may have"),
        Err(error) => tracing::warn!("the limit of open files could not be raised: {error}"),
    }
}

/// How many connections of clients there may be at a time, at most `max`: the rest of the handles is kept back. Says so
/// if it is less than `max`.
pub fn for_clients(max: usize) -> usize {
    let Ok((files, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else {
        return max;
    };
    let clients = usize::try_from(for_clients_of(files)).unwrap_or(usize::MAX).min(max);
    if clients < max {
        tracing::warn!(
            "this process may open {files} files, so it serves {clients} connections at a time instead of {max}: raise \
             the limit (ulimit -n, LimitNOFILE=) for more"
        );
    }
    clients
}

fn for_clients_of(files: u64) -> u64 {
    let kept = if files >= PLENTY { KEPT + HTTP_MAX } else { KEPT };
    files.saturating_sub(kept).max(files / 2)
}

/// How many HTTP connections there may be at a time: a third of what is kept back, or 1024 where there are plenty.
pub fn for_http() -> usize {
    let files = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(PLENTY, |(files, _)| files);
    usize::try_from(for_http_of(files)).unwrap_or(usize::MAX)
}

fn for_http_of(files: u64) -> u64 {
    if files >= PLENTY { HTTP_MAX } else { (files - for_clients_of(files)).min(KEPT) / 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_have_all_handles() {
        for (files, clients) in [(1024, 640), (65_536, 64_128), (700, 350), (256, 128), (0, 0)] {
            assert_eq!(for_clients_of(files), clients);
        }
        assert_eq!(for_clients(1), 1);
    }

    #[test]
    fn http_has_a_part_of_what_is_kept_back() {
        for (files, http) in [(65_536, 1024), (8191, 128), (1024, 128), (256, 42), (0, 0)] {
            assert_eq!(for_http_of(files), http);
        }
    }
}
