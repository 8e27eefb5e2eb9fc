use std::sync::{Arc, MutexGuard};

use chronik_wire::FetchPartition;

use super::session::{DuePartition, FetchSession, PartitionKey, SessionError};
use super::shared_session::{SharedSession, lock};
use crate::lane::watcher::TailWatcher;

/// What a request reads.
pub enum FetchScope {
    Full(FullFetch),
    Incremental(IncrementalFetch),
}

/// A request that names all that it reads. A session comes of it once it is answered.
pub struct FullFetch {
    /// In its order. A partition's number is its index.
    pub named: Vec<(PartitionKey, FetchPartition)>,
    /// Whether it names topics by id.
    pub by_id: bool,
    pub wants_session: bool,
    pub watcher: Arc<TailWatcher>,
}

/// A request that reads all that its session has.
pub struct IncrementalFetch {
    /// Of the session.
    pub id: i32,
    session: SharedSession,
    /// Of the request after it.
    next_epoch: i32,
}

impl FetchScope {
    /// What a full request reads.
    pub fn full(named: Vec<(PartitionKey, FetchPartition)>, by_id: bool, wants_session: bool) -> Self {
        Self::Full(FullFetch { named, by_id, wants_session, watcher: Arc::default() })
    }

    /// Watches what it reads.
    pub fn watcher(&self) -> Arc<TailWatcher> {
        match self {
            Self::Full(full) => full.watcher.clone(),
            Self::Incremental(request) => lock(&request.session).watcher().clone(),
        }
    }

    /// The partitions that may have something to tell, in order.
    pub fn due(&self) -> Vec<DuePartition> {
        match self {
            Self::Full(full) => (0..full.named.len() as u64).filter_map(|number| full.partition(number)).collect(),
            Self::Incremental(request) => lock(&request.session).due(),
        }
    }

    /// Those that have changed since the last call.
    pub fn changed(&self) -> Result<Vec<DuePartition>, SessionError> {
        Ok(match self {
            Self::Full(full) => full.watcher.take().into_iter().filter_map(|number| full.partition(number)).collect(),
            Self::Incremental(request) => request.session()?.changed(),
        })
    }
}

impl FullFetch {
    fn partition(&self, number: u64) -> Option<DuePartition> {
        let (key, asked) = self.named.get(number as usize)?;
        Some(DuePartition { number, order: number, key: key.clone(), asked: asked.clone(), watch: None })
    }
}

impl IncrementalFetch {
    /// Of a session that has taken the request.
    pub fn new(id: i32, session: SharedSession, next_epoch: i32) -> Self {
        Self { id, session, next_epoch }
    }

    /// The session, unless the client has sent another request meanwhile: this one is answered no more.
    pub fn session(&self) -> Result<MutexGuard<'_, FetchSession>, SessionError> {
        let session = lock(&self.session);
        session.expect(self.next_epoch)?;
        Ok(session)
    }
}
