use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session::FetchSession;

/// A session that the request at hand shares with the cache.
pub type SharedSession = Arc<Mutex<FetchSession>>;

/// Locks a session.
pub fn lock(session: &SharedSession) -> MutexGuard<'_, FetchSession> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
