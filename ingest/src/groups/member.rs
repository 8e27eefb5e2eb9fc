//! A member, as its group knows it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::millis;
use super::request::{GroupProtocol, JoinAnswer, JoinRequest, JoinedMember, Reply, SyncAnswer};
use crate::state::group::GroupMember;

/// A new member may wait so long for the others; longer, and its client is taken to be gone.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// One member.
#[derive(Debug)]
pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocols: Vec<GroupProtocol>,
    pub assignment: Bytes,
    /// Waits for the next generation.
    pub joining: Option<Reply<JoinAnswer>>,
    /// Waits for its assignment.
    pub syncing: Option<Reply<SyncAnswer>>,
    /// Whether it has asked for its assignment in this generation.
    pub synced: bool,
    /// Whether it was in no generation yet.
    is_new: bool,
    expires: Instant,
}

impl Member {
    /// A member that joins at `now`.
    pub fn joining(join: JoinRequest, reply: Reply<JoinAnswer>, now: Instant) -> Self {
        Self {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(reply),
            syncing: None,
            synced: false,
            is_new: true,
            expires: now + NEW_MEMBER_TIMEOUT,
        }
    }

    /// A member of a generation that was saved, whose session begins anew at `now`.
    pub fn restored(saved: &GroupMember, protocol: &str, now: Instant) -> Self {
        let session_timeout = millis(saved.session_timeout_ms);
        Self {
            instance_id: saved.instance_id.clone(),
            client_id: saved.client_id.clone(),
            client_host: saved.client_host.clone(),
            session_timeout,
            rebalance_timeout: millis(saved.rebalance_timeout_ms),
            protocols: vec![GroupProtocol { name: protocol.into(), metadata: saved.metadata.clone() }],
            assignment: saved.assignment.clone(),
            joining: None,
            syncing: None,
            synced: true,
            is_new: false,
            expires: now + session_timeout,
        }
    }

    /// What is saved of it.
    pub fn saved(&self, id: &str, protocol: &str, assignment: &Bytes) -> GroupMember {
        GroupMember {
            id: id.into(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: self.rebalance_timeout.as_millis() as i32,
            metadata: self.metadata(protocol),
            assignment: assignment.clone(),
        }
    }

    /// It joins again, perhaps with other timeouts and protocols.
    pub fn rejoin(&mut self, join: JoinRequest, reply: Reply<JoinAnswer>) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.protocols = join.protocols;
        self.joining = Some(reply);
    }

    /// A sign of life at `now`.
    pub fn lives(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    /// It is in a generation now.
    pub fn settled(&mut self, now: Instant) {
        self.is_new = false;
        self.synced = false;
        self.lives(now);
    }

    /// When its client is taken to be gone; `None` while it waits for the group.
    pub fn expires(&self) -> Option<Instant> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.expires)
    }

    /// What it tells under a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|known| known.name == protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    /// As the leader sees it.
    pub fn seen_by_leader(&self, id: &str, protocol: &str) -> JoinedMember {
        JoinedMember { member_id: id.into(), instance_id: self.instance_id.clone(), metadata: self.metadata(protocol) }
    }

    /// Bytes of what it tells of itself and is assigned.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.protocols) + self.assignment.len()
    }
}

/// Bytes of what is told under all protocols.
pub fn bytes_of(protocols: &[GroupProtocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}
