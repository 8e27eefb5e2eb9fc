//! One group: a machine that is told of requests and of time, and draws neither clock nor random numbers itself.
//!
//! ```text
//!           first join                all have joined, or time is up             the leader's assignment is saved
//!   Empty ─────────────▶ Preparing ───────────────────────────────▶ Completing ─────────────────────────────────▶ Stable
//!     ▲                    │    ▲                                       │                                          │
//!     └── no member left ──┘    └───── a member joins, leaves, expires, or does not ask for its assignment ────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::member::{Member, bytes_of};
use super::request::{
    GroupProtocol, JoinAnswer, JoinRequest, LeavingMember, MemberClaim, Reply, SyncAnswer, SyncRequest,
};
use super::{GroupError, GroupLimits};
use crate::state::group::Generation;

/// Where a group is between two generations.
#[derive(Debug)]
enum Phase {
    /// Without members.
    Empty,
    /// Members join until all have, or until `until`.
    Preparing { until: Instant, first: Option<FirstWait> },
    /// The leader assigns; who does not ask for its assignment until `until` is no member any more.
    Completing { until: Instant, saving: Option<Saving> },
    /// All know what is theirs.
    Stable { until: Option<Instant> },
}

/// The wait of a group that was empty, so that members which start together are in one generation.
#[derive(Debug)]
struct FirstWait {
    /// By how much it can still be prolonged.
    left: Duration,
    /// Whether members came since it was last prolonged.
    grew: bool,
}

/// An assignment that is on its way into the log.
#[derive(Debug)]
struct Saving {
    ticket: u64,
    assignments: BTreeMap<String, Bytes>,
}

/// What has to become durable; the group is told by [`Group::saved`].
#[derive(Debug, PartialEq, Eq)]
pub struct GroupSave {
    pub ticket: u64,
    /// Without the time that it is saved at.
    pub generation: Generation,
}

/// What can be seen of a group.
#[derive(Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// As if it were saved now. Metadata and assignments are there in a stable group only.
    pub generation: Generation,
}

/// See the file.
#[derive(Debug)]
pub struct Group {
    limits: GroupLimits,
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Ids that were given out and have not joined yet, with the time that they have for it.
    pending: BTreeMap<String, Instant>,
    /// The members that have a `group.instance.id`, by it.
    statics: BTreeMap<String, String>,
    saves: Vec<GroupSave>,
    last_ticket: u64,
    /// Static members that came back under a new id and are told so once that is saved.
    replaced: Vec<(u64, JoinAnswer, Reply<JoinAnswer>)>,
    /// No deadline is before it.
    check_at: Option<Instant>,
    /// Of what members, and ids that were given out, take; kept as they change.
    bytes: usize,
    bytes_max: usize,
}

/// What becomes of a request to join.
enum Admission {
    /// It gets an id to join with.
    NeedsId,
    New,
    /// It takes the place of the static member with this id.
    Replaces(String),
    Again,
    /// It is in the present generation already.
    Current,
}

impl Group {
    /// A group without members.
    pub fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            statics: BTreeMap::new(),
            saves: Vec::new(),
            last_ticket: 0,
            replaced: Vec::new(),
            check_at: None,
            bytes: 0,
            bytes_max: limits.bytes_max,
        }
    }

    /// A group as it was saved: its members go on, and their sessions begin anew at `now`.
    pub fn restored(limits: GroupLimits, saved: &Generation, now: Instant) -> Self {
        let mut group = Self::new(limits);
        group.generation = saved.id;
        group.protocol_type = saved.protocol_type.clone();
        let Some(protocol) = saved.protocol.as_ref().filter(|_| !saved.members.is_empty()) else {
            return group;
        };
        group.phase = Phase::Stable { until: None };
        group.leader = saved.leader.clone();
        for member in &saved.members {
            if let Some(instance) = &member.instance_id {
                group.statics.insert(instance.clone(), member.id.clone());
            }
            group.insert(member.id.clone(), Member::restored(member, protocol, now));
        }
        group.protocol = Some(protocol.clone());
        group
    }

    /// Asks to be in the next generation. The answer comes once that is complete.
    pub fn join(&mut self, join: JoinRequest, reply: Reply<JoinAnswer>, now: Instant) {
        match self.admission(&join) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(Admission::NeedsId) => {
                let (member_id, until) = (join.new_member_id, now + join.session_timeout);
                self.bytes += member_id.len();
                self.pending.insert(member_id.clone(), until);
                self.arm(until);
                let _ = reply.send(Err(GroupError::MemberIdRequired { member_id }));
            }
            Ok(Admission::New) => self.add(join, reply, now),
            Ok(Admission::Replaces(old)) => self.replace(&old, join, reply, now),
            Ok(Admission::Again) => {
                if let Some(mut member) = self.take(&join.member_id) {
                    let id = join.member_id.clone();
                    member.rejoin(join, reply);
                    self.insert(id, member);
                }
                self.rebalance(now);
            }
            Ok(Admission::Current) => {
                self.lives(&join.member_id, now);
                let _ = reply.send(Ok(self.joined(&join.member_id)));
            }
        }
    }

    /// Asks for the assignment. The answer comes once the leader has brought it and it is saved.
    pub fn sync(&mut self, sync: SyncRequest, reply: Reply<SyncAnswer>, now: Instant) {
        let member_id = sync.who.member_id.clone();
        if let Err(error) = self.check_sync(&sync) {
            let _ = reply.send(Err(error));
            return;
        }
        let Some(member) = self.members.get_mut(&member_id) else { return };
        member.synced = true;
        if let Phase::Stable { .. } = self.phase {
            let _ = reply.send(Ok(self.synced(&member_id)));
            self.lives(&member_id, now);
            return;
        }
        member.syncing = Some(reply);
        if self.leader.as_ref() == Some(&member_id) {
            self.assign(sync.assignments);
        }
    }

    /// A sign of life; the error says whether the member has to join again.
    pub fn heartbeat(&mut self, who: &MemberClaim, now: Instant) -> Result<(), GroupError> {
        self.check(who)?;
        self.lives(&who.member_id, now);
        match self.phase {
            Phase::Preparing { .. } => Err(GroupError::Rebalancing),
            _ => Ok(()),
        }
    }

    /// Members that go, each with its own outcome.
    pub fn leave(&mut self, leaving: &[LeavingMember], now: Instant) -> Vec<Result<(), GroupError>> {
        let members = self.members.len();
        let outcomes = leaving.iter().map(|leave| self.remove_leaving(leave)).collect();
        self.shrunk(self.members.len() < members, now);
        outcomes
    }

    /// Whether a member, or a client that is in no group, may commit offsets now.
    pub fn check_commit(&mut self, who: &MemberClaim, now: Instant) -> Result<(), GroupError> {
        let is_alone = who.member_id.is_empty() && who.instance_id.is_none();
        match self.phase {
            Phase::Empty if who.generation < 0 => return Ok(()),
            _ if who.generation < 0 && is_alone => return Err(GroupError::UnknownMember),
            _ => self.check(who)?,
        }
        self.lives(&who.member_id, now);
        match self.phase {
            Phase::Completing { .. } => Err(GroupError::Rebalancing),
            _ => Ok(()),
        }
    }

    /// Does what is due at `now`: members and ids expire, waits end.
    pub fn tick(&mut self, now: Instant) {
        if self.check_at.is_none_or(|at| now < at) {
            return;
        }
        self.check_at = None;
        self.expire(now);
        match &mut self.phase {
            Phase::Preparing { until, first } if *until <= now => match first {
                Some(first) if first.grew && !first.left.is_zero() => {
                    let longer = first.left.min(self.limits.initial_rebalance_delay);
                    first.left -= longer;
                    first.grew = false;
                    *until = now + longer;
                }
                _ => self.complete(now),
            },
            Phase::Completing { until, saving: None } if *until <= now => self.drop_unsynced(now),
            Phase::Stable { until: Some(until) } if *until <= now => self.drop_unsynced(now),
            _ => {}
        }
        self.check_at = self.next_deadline();
    }

    /// What [`Group::take_saves`] gave out is durable, or could not be saved.
    pub fn saved(&mut self, ticket: u64, is_durable: bool, now: Instant) {
        for (_, joined, reply) in self.replaced.extract_if(.., |(waits_for, ..)| *waits_for == ticket) {
            let _ = reply.send(if is_durable { Ok(joined) } else { Err(GroupError::NotSaved) });
        }
        let Phase::Completing { until, saving } = &mut self.phase else { return };
        let until = *until;
        let Some(mut saving) = saving.take_if(|saving| saving.ticket == ticket) else { return };
        if !is_durable {
            self.refuse_syncing(&GroupError::NotSaved);
            self.prepare(now);
            return;
        }
        self.phase = Phase::Stable { until: Some(until) };
        self.arm(until);
        for (id, member) in &mut self.members {
            self.bytes -= member.bytes();
            member.assignment = saving.assignments.remove(id).unwrap_or_default();
            self.bytes += member.bytes();
        }
        let waiting: Vec<_> =
            self.members.iter_mut().filter_map(|(id, m)| Some((id.clone(), m.syncing.take()?))).collect();
        for (id, reply) in waiting {
            let _ = reply.send(Ok(self.synced(&id)));
            self.lives(&id, now);
        }
    }

    /// What has to become durable since this was last called.
    pub fn take_saves(&mut self) -> Vec<GroupSave> {
        std::mem::take(&mut self.saves)
    }

    /// When [`Group::tick`] has something to do, at the earliest.
    pub fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Bytes of what its members tell of themselves and are assigned, and of the ids that were given out.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on no request may take it beyond so many.
    pub fn limit_bytes(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// As [`Group::bytes`], counted anew.
    #[cfg(test)]
    pub fn counted_bytes(&self) -> usize {
        let pending: usize = self.pending.keys().map(String::len).sum();
        pending + self.members.values().map(Member::bytes).sum::<usize>()
    }

    /// Whether it has no members, nor any that are about to join.
    pub fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty) && self.pending.is_empty()
    }

    /// Whether it has had members.
    pub fn had_members(&self) -> bool {
        self.generation > 0
    }

    /// Kafka's name of its state.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing { .. } => "PreparingRebalance",
            Phase::Completing { .. } => "CompletingRebalance",
            Phase::Stable { .. } => "Stable",
        }
    }

    /// Such as `consumer` or `connect`.
    pub fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// As clients may see it.
    pub fn view(&self) -> GroupView {
        let assignments = self.members.iter().map(|(id, member)| (id.clone(), member.assignment.clone())).collect();
        let mut generation = self.record(&assignments);
        if !matches!(self.phase, Phase::Stable { .. }) {
            generation.protocol = None;
            for member in &mut generation.members {
                (member.metadata, member.assignment) = Default::default();
            }
        }
        GroupView { state: self.state(), generation }
    }

    fn admission(&self, join: &JoinRequest) -> Result<Admission, GroupError> {
        let GroupLimits { session_min: min, session_max: max, .. } = self.limits;
        if !(min..=max).contains(&join.session_timeout) {
            let asked_ms = join.session_timeout.as_millis() as i32;
            return Err(GroupError::SessionTimeout { asked_ms, min, max });
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return Err(GroupError::InconsistentProtocol);
        }
        let replaced = join.instance_id.as_ref().and_then(|instance| self.statics.get(instance));
        if join.member_id.is_empty() {
            self.check_room(join, replaced)?;
            return Ok(match replaced {
                Some(old) => Admission::Replaces(old.clone()),
                None if join.needs_id && join.instance_id.is_none() => Admission::NeedsId,
                None => Admission::New,
            });
        }
        self.check_room(join, Some(&join.member_id))?;
        if self.pending.contains_key(&join.member_id) {
            return Ok(Admission::New);
        }
        let member = self.check_member(&join.member_id, join.instance_id.as_ref())?;
        let same = member.protocols == join.protocols;
        Ok(match self.phase {
            Phase::Completing { .. } if same => Admission::Current,
            Phase::Stable { .. } if same && self.leader.as_ref() != Some(&join.member_id) => Admission::Current,
            _ => Admission::Again,
        })
    }

    /// Whether all members, and one with these protocols, have one in common.
    fn supports(&self, protocol_type: &str, protocols: &[GroupProtocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type == protocol_type && protocols.iter().any(|protocol| self.is_known_to_all(&protocol.name))
    }

    fn is_known_to_all(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|known| known.name == protocol))
    }

    /// `known`: the member that is in the group already, if this is one.
    fn check_room(&self, join: &JoinRequest, known: Option<&String>) -> Result<(), GroupError> {
        let is_known = known.is_some_and(|id| self.members.contains_key(id) || self.pending.contains_key(id));
        let present = known.and_then(|id| self.members.get(id)).map_or(0, Member::bytes);
        let bytes = self.bytes - present + bytes_of(&join.protocols);
        let is_full = !is_known && self.members.len() + self.pending.len() >= self.limits.members_max;
        if is_full || bytes > self.bytes_max { Err(GroupError::Full) } else { Ok(()) }
    }

    /// The member of an id, if no other one has its instance.
    fn check_member(&self, id: &str, instance: Option<&String>) -> Result<&Member, GroupError> {
        match instance.map(|instance| self.statics.get(instance)) {
            Some(None) => return Err(GroupError::UnknownMember),
            Some(Some(current)) if current != id => return Err(GroupError::FencedInstance),
            _ => {}
        }
        self.members.get(id).ok_or(GroupError::UnknownMember)
    }

    fn check(&self, who: &MemberClaim) -> Result<(), GroupError> {
        self.check_member(&who.member_id, who.instance_id.as_ref())?;
        if who.generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    fn check_sync(&self, sync: &SyncRequest) -> Result<(), GroupError> {
        self.check(&sync.who)?;
        let other_type = sync.protocol_type.as_ref().is_some_and(|named| *named != self.protocol_type);
        let other_protocol = sync.protocol.as_ref().is_some_and(|named| Some(named) != self.protocol.as_ref());
        match self.phase {
            _ if other_type || other_protocol => Err(GroupError::InconsistentProtocol),
            Phase::Preparing { .. } => Err(GroupError::Rebalancing),
            _ => Ok(()),
        }
    }

    fn add(&mut self, join: JoinRequest, reply: Reply<JoinAnswer>, now: Instant) {
        let id = if join.member_id.is_empty() { join.new_member_id.clone() } else { join.member_id.clone() };
        self.forget_pending(&id);
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.insert(id.clone(), Member::joining(join, reply, now));
        self.leader.get_or_insert(id);
        if let Phase::Preparing { first: Some(first), .. } = &mut self.phase {
            first.grew = true;
        }
        self.rebalance(now);
    }

    fn insert(&mut self, id: String, member: Member) {
        self.bytes += member.bytes();
        if let Some(expires) = member.expires() {
            self.arm(expires);
        }
        self.members.insert(id, member);
    }

    fn take(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.bytes -= member.bytes();
        Some(member)
    }

    /// Whether an id was given out that nobody had joined with yet.
    fn forget_pending(&mut self, id: &str) -> bool {
        let was_pending = self.pending.remove(id).is_some();
        if was_pending {
            self.bytes -= id.len();
        }
        was_pending
    }

    /// A static member has come back without its id: it goes on with another one, and the old one is fenced. In a stable
    /// group whose protocol stays as it is, no rebalance follows.
    fn replace(&mut self, old: &str, join: JoinRequest, reply: Reply<JoinAnswer>, now: Instant) {
        let Some(mut member) = self.take(old) else { return };
        let (id, skips) = (join.new_member_id.clone(), join.can_skip_assignment);
        let led = self.leader.as_deref() == Some(old);
        fence(&mut member);
        if led {
            self.leader = Some(id.clone());
        }
        self.statics.extend(join.instance_id.clone().map(|instance| (instance, id.clone())));
        member.rejoin(join, reply);
        member.lives(now);
        self.insert(id.clone(), member);
        let is_settled = matches!(self.phase, Phase::Stable { .. }) && self.vote() == self.protocol;
        if !is_settled {
            return self.rebalance(now);
        }
        let mut joined = self.joined(&id);
        if led && skips {
            joined.skip_assignment = true;
        } else if led {
            // A leader that does not know of this takes itself for a follower, and assigns nothing.
            joined.leader = old.into();
            joined.members.clear();
        }
        let reply = self.members.get_mut(&id).and_then(|member| member.joining.take());
        self.lives(&id, now);
        let assignments = self.members.iter().map(|(id, member)| (id.clone(), member.assignment.clone())).collect();
        let ticket = self.save(&assignments);
        self.replaced.extend(reply.map(|reply| (ticket, joined, reply)));
    }

    /// Begins a rebalance, or completes the one that has begun if all have joined.
    fn rebalance(&mut self, now: Instant) {
        match self.phase {
            Phase::Preparing { .. } => self.complete_if_all_joined(now),
            _ => self.prepare(now),
        }
    }

    fn prepare(&mut self, now: Instant) {
        self.refuse_syncing(&GroupError::Rebalancing);
        let rebalance = self.rebalance_timeout();
        let delay = self.limits.initial_rebalance_delay;
        let waits = matches!(self.phase, Phase::Empty) && !delay.is_zero();
        let first = waits.then(|| FirstWait { left: rebalance.saturating_sub(delay), grew: false });
        let until = now + if waits { delay } else { rebalance };
        self.phase = Phase::Preparing { until, first };
        self.arm(until);
        self.complete_if_all_joined(now);
    }

    /// A group that was empty waits for its time, whoever has joined.
    fn complete_if_all_joined(&mut self, now: Instant) {
        let all_joined = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if all_joined && matches!(self.phase, Phase::Preparing { first: None, .. }) {
            self.complete(now);
        }
    }

    /// Makes a generation of those who have joined. Static members that have not are kept: they come back.
    fn complete(&mut self, now: Instant) {
        let is_gone = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<_> = self.members.iter().filter(|(_, m)| is_gone(m)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
        let until = now + self.rebalance_timeout();
        self.arm(until);
        if !self.members.is_empty() && !self.elect_leader() {
            self.phase = Phase::Preparing { until, first: None };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.vote();
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader = None;
            self.save(&BTreeMap::new());
            return;
        }
        self.phase = Phase::Completing { until, saving: None };
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(reply) = member.joining.take() {
                let _ = reply.send(Ok(joined));
            }
            member.settled(now);
            self.lives(&id, now);
        }
    }

    /// The leader stays if it has joined. `false`: no member has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(has_joined) {
            self.leader = self.members.keys().find(|id| has_joined(id)).cloned();
        }
        self.leader.is_some()
    }

    /// The protocol that most members prefer of those that all know; of several, the first by name.
    fn vote(&self) -> Option<String> {
        let known_to_all: BTreeSet<&str> = self
            .members
            .values()
            .next()?
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .filter(|name| self.is_known_to_all(name))
            .collect();
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let preferred = member.protocols.iter().find(|protocol| known_to_all.contains(protocol.name.as_str()));
            *votes.entry(preferred?.name.as_str()).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.into())
    }

    /// Has the leader's assignment saved; members that it does not name get nothing.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>) {
        let Phase::Completing { saving: None, .. } = self.phase else { return };
        let assignments: BTreeMap<_, _> =
            assignments.into_iter().filter(|(id, _)| self.members.contains_key(id)).collect();
        let assigned: usize = assignments.values().map(Bytes::len).sum();
        let present: usize = self.members.values().map(|member| member.assignment.len()).sum();
        if self.bytes - present + assigned > self.bytes_max {
            return self.refuse_syncing(&GroupError::Full);
        }
        let ticket = self.save(&assignments);
        if let Phase::Completing { saving, .. } = &mut self.phase {
            *saving = Some(Saving { ticket, assignments });
        }
    }

    fn save(&mut self, assignments: &BTreeMap<String, Bytes>) -> u64 {
        self.last_ticket += 1;
        self.saves.push(GroupSave { ticket: self.last_ticket, generation: self.record(assignments) });
        self.last_ticket
    }

    fn record(&self, assignments: &BTreeMap<String, Bytes>) -> Generation {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let none = Bytes::new();
        let saved = |(id, member): (&String, &Member)| member.saved(id, protocol, assignments.get(id).unwrap_or(&none));
        Generation {
            id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(saved).collect(),
            since: 0,
        }
    }

    fn joined(&self, id: &str) -> JoinAnswer {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let leads = self.leader.as_deref() == Some(id);
        let seen = self.members.iter().filter(|_| leads).map(|(id, member)| member.seen_by_leader(id, protocol));
        JoinAnswer {
            member_id: id.into(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            members: seen.collect(),
            skip_assignment: false,
        }
    }

    fn synced(&self, id: &str) -> SyncAnswer {
        SyncAnswer {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    fn remove_leaving(&mut self, leave: &LeavingMember) -> Result<(), GroupError> {
        if self.forget_pending(&leave.member_id) {
            return Ok(());
        }
        let by_instance = leave.instance_id.as_ref().filter(|_| leave.member_id.is_empty());
        let id = by_instance.map_or(Some(&leave.member_id), |instance| self.statics.get(instance));
        let id = id.ok_or(GroupError::UnknownMember)?.clone();
        self.check_member(&id, leave.instance_id.as_ref())?;
        self.remove(&id);
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.take(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(reply) = member.joining {
            let _ = reply.send(Err(GroupError::UnknownMember));
        }
        if let Some(reply) = member.syncing {
            let _ = reply.send(Err(GroupError::UnknownMember));
        }
    }

    /// Pending ids went, and perhaps members: what follows from it.
    fn shrunk(&mut self, lost_members: bool, now: Instant) {
        match self.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => self.complete_if_all_joined(now),
            Phase::Completing { .. } | Phase::Stable { .. } if lost_members => self.prepare(now),
            Phase::Completing { .. } | Phase::Stable { .. } => {}
        }
    }

    fn expire(&mut self, now: Instant) {
        let gone: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.expires().is_some_and(|expires| expires <= now))
            .map(|(id, _)| id.clone())
            .collect();
        let late: Vec<_> = self.pending.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.forget_pending(&id);
        }
        gone.iter().for_each(|id| self.remove(id));
        self.shrunk(!gone.is_empty(), now);
    }

    /// Who has not asked for its assignment in time is no member any more.
    fn drop_unsynced(&mut self, now: Instant) {
        let unsynced: Vec<_> =
            self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()).collect();
        if let Phase::Stable { until } = &mut self.phase {
            *until = None;
        }
        if !unsynced.is_empty() {
            unsynced.iter().for_each(|id| self.remove(id));
            self.prepare(now);
        }
    }

    fn refuse_syncing(&mut self, error: &GroupError) {
        for member in self.members.values_mut() {
            if let Some(reply) = member.syncing.take() {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }

    /// The longest time that a member wants for a rebalance.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn lives(&mut self, id: &str, now: Instant) {
        let expires = self.members.get_mut(id).and_then(|member| {
            member.lives(now);
            member.expires()
        });
        if let Some(expires) = expires {
            self.arm(expires);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.check_at = Some(self.check_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Preparing { until, .. } | Phase::Completing { until, saving: None } => Some(until),
            Phase::Stable { until } => until,
            Phase::Empty | Phase::Completing { .. } => None,
        };
        let members = self.members.values().filter_map(Member::expires);
        members.chain(self.pending.values().copied()).chain(phase).min()
    }
}

/// Answers what the member's former client still waits for.
fn fence(member: &mut Member) {
    if let Some(reply) = member.joining.take() {
        let _ = reply.send(Err(GroupError::FencedInstance));
    }
    if let Some(reply) = member.syncing.take() {
        let _ = reply.send(Err(GroupError::FencedInstance));
    }
}
