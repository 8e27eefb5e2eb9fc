//! The one task that owns all groups, and the way to it.
//!
//! What it puts into the lane stands there in the order in which it was decided here, so that an offset committed late
//! by a former member can't follow that of the next one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use chronik_format::ids::{PartitionId, TopicId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::clock::{GroupClock, TURN_EVERY};
use super::group::{Group, GroupSave, GroupView};
use super::request::{JoinAnswer, JoinRequest, LeavingMember, MemberClaim, Reply, SyncAnswer, SyncRequest};
use super::{GroupError, GroupLimits, retention};
use crate::clock::{now_ms, sleep_until};
use crate::lane::{Lane, LaneError, LaneGone};
use crate::metrics::GroupMetrics;
use crate::state::LaneState;
use crate::state::command::{
    Command, CommitOffsets, DeleteGroup, ForgetOffsets, ForgottenOffset, PartitionOffset, SaveGroup,
};
use crate::state::refusal::CommandRefusal;

/// Requests that wait for the coordinator; beyond it, connections wait.
const INBOX_REQUESTS: usize = 1024;
/// How often groups and offsets are looked through for those out of use (`offsets.retention.check.interval.ms`).
const RETENTION_CHECK: Duration = Duration::from_secs(10 * 60);

/// A partition of which a group is to forget its offset.
#[derive(Clone, Debug)]
pub struct OffsetToForget {
    pub topic: String,
    pub id: TopicId,
    pub partition: PartitionId,
}

/// A group in a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub id: String,
    /// Empty where members never joined.
    pub protocol_type: String,
    /// Kafka's name of its state.
    pub state: &'static str,
}

enum CoordinatorRequest {
    Group(String, Box<GroupRequest>),
    /// Asks for the groups that have, or had, members.
    List(Reply<Vec<ListedGroup>>),
}

enum GroupRequest {
    Join(JoinRequest, Reply<JoinAnswer>),
    Sync(SyncRequest, Reply<SyncAnswer>),
    Heartbeat(MemberClaim, Reply<()>),
    Leave(Vec<LeavingMember>, Reply<Vec<Result<(), GroupError>>>),
    Commit(MemberClaim, Vec<PartitionOffset>, Reply<()>),
    View(Reply<GroupView>),
    Delete(Reply<()>),
    ForgetOffsets(Vec<OffsetToForget>, Reply<Vec<Result<(), GroupError>>>),
}

/// The way to the groups. Cheap to clone.
#[derive(Clone)]
pub struct Groups {
    requests: mpsc::Sender<CoordinatorRequest>,
    lane: Lane,
}

impl Groups {
    /// See [`Group::join`].
    pub async fn join(&self, group: &str, join: JoinRequest) -> Result<JoinAnswer, GroupError> {
        self.ask_named(group, |reply| GroupRequest::Join(join, reply)).await
    }

    /// See [`Group::sync`].
    pub async fn sync(&self, group: &str, sync: SyncRequest) -> Result<SyncAnswer, GroupError> {
        self.ask_named(group, |reply| GroupRequest::Sync(sync, reply)).await
    }

    /// See [`Group::heartbeat`].
    pub async fn heartbeat(&self, group: &str, who: MemberClaim) -> Result<(), GroupError> {
        self.ask_named(group, |reply| GroupRequest::Heartbeat(who, reply)).await
    }

    /// See [`Group::leave`].
    pub async fn leave(
        &self,
        group: &str,
        leaving: Vec<LeavingMember>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.ask_named(group, |reply| GroupRequest::Leave(leaving, reply)).await
    }

    /// Commits offsets; they are durable once this returns.
    pub async fn commit(&self, group: &str, who: MemberClaim, offsets: Vec<PartitionOffset>) -> Result<(), GroupError> {
        self.ask(group, |reply| GroupRequest::Commit(who, offsets, reply)).await
    }

    /// What can be seen of a group.
    pub async fn view(&self, group: &str) -> Result<GroupView, GroupError> {
        match self.ask(group, GroupRequest::View).await {
            Err(GroupError::UnknownGroup) => {
                let state = self.state().await?;
                let known = state.groups.get(group).ok_or(GroupError::UnknownGroup)?;
                Ok(GroupView { state: "Empty", generation: known.generation.clone() })
            }
            seen => seen,
        }
    }

    /// All groups: those with members, those that had some, and those that only have offsets.
    pub async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let mut listed = self.send(CoordinatorRequest::List).await?;
        let state = self.state().await?;
        let known: HashSet<String> = listed.iter().map(|group| group.id.clone()).collect();
        let others = state.groups.iter().filter(|(id, _)| !known.contains(&***id));
        listed.extend(others.map(|(id, group)| ListedGroup {
            id: id.to_string(),
            protocol_type: group.generation.protocol_type.clone(),
            state: "Empty",
        }));
        Ok(listed)
    }

    /// Deletes a group without members, with its offsets.
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        self.ask(group, GroupRequest::Delete).await
    }

    /// Forgets offsets of partitions whose topics no member is subscribed to.
    pub async fn forget_offsets(
        &self,
        group: &str,
        offsets: Vec<OffsetToForget>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if offsets.is_empty() && !group.is_empty() {
            return self.view(group).await.map(|_| Vec::new());
        }
        self.ask_named(group, |reply| GroupRequest::ForgetOffsets(offsets, reply)).await
    }

    /// The lane's state, where committed offsets are.
    pub async fn state(&self) -> Result<LaneState, GroupError> {
        self.lane.snapshot().await.map_err(|LaneGone| GroupError::NotSaved)
    }

    /// Asks for what a group without an id does not do. It may only have offsets, as with Kafka, of clients that are
    /// older than groups.
    async fn ask_named<T>(&self, group: &str, request: impl FnOnce(Reply<T>) -> GroupRequest) -> Result<T, GroupError> {
        if group.is_empty() {
            return Err(GroupError::NoGroupId);
        }
        self.ask(group, request).await
    }

    async fn ask<T>(&self, group: &str, request: impl FnOnce(Reply<T>) -> GroupRequest) -> Result<T, GroupError> {
        self.send(|reply| CoordinatorRequest::Group(group.into(), Box::new(request(reply)))).await
    }

    async fn send<T>(&self, request: impl FnOnce(Reply<T>) -> CoordinatorRequest) -> Result<T, GroupError> {
        let (reply, answer) = oneshot::channel();
        match self.requests.send(request(reply)).await {
            Ok(()) => answer.await.unwrap_or(Err(GroupError::NotSaved)),
            Err(_) => Err(GroupError::NotSaved),
        }
    }
}

/// A group, and when it is looked at next, in the time of groups.
struct Known {
    group: Group,
    armed: Option<Instant>,
    /// As counted in [`Coordinator::bytes`].
    bytes: usize,
}

/// See the file.
pub struct Coordinator {
    lane: Lane,
    limits: GroupLimits,
    /// `offsets.retention.minutes`.
    retention: Duration,
    requests: mpsc::Receiver<CoordinatorRequest>,
    clock: GroupClock,
    /// Those that have, or had, members.
    groups: HashMap<String, Known>,
    due: BTreeSet<(Instant, String)>,
    /// Of all groups together.
    bytes: usize,
    /// What is on its way into the log.
    saving: FuturesUnordered<BoxFuture<'static, (String, u64, bool)>>,
    metrics: GroupMetrics,
}

impl Coordinator {
    /// The coordinator of the lane's groups, whose members go on with new sessions, and the way to it.
    pub fn restored(
        state: &LaneState,
        lane: Lane,
        limits: GroupLimits,
        retention: Duration,
        metrics: GroupMetrics,
    ) -> (Self, Groups) {
        let (sender, requests) = mpsc::channel(INBOX_REQUESTS);
        let groups = Groups { requests: sender, lane: lane.clone() };
        let now = Instant::now();
        let mut coordinator = Self {
            lane,
            limits,
            retention,
            requests,
            clock: GroupClock::new(now),
            groups: HashMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            saving: FuturesUnordered::new(),
            metrics,
        };
        for (id, saved) in state.groups.iter().filter(|(_, saved)| saved.generation.id > 0) {
            let group = Group::restored(limits, &saved.generation, now);
            coordinator.groups.insert(id.to_string(), Known { group, armed: None, bytes: 0 });
            coordinator.settle(id);
        }
        (coordinator, groups)
    }

    /// Serves until it is cancelled, or nobody can ask any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut sweep = tokio::time::interval_at((Instant::now() + RETENTION_CHECK).into(), RETENTION_CHECK);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = tokio::time::interval(TURN_EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.due.first().map(|(at, _)| self.clock.when(*at));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((id, ticket, is_durable)) = self.saving.next() => self.saved(&id, ticket, is_durable),
                () = sleep_until(due.map(Into::into)) => self.tick(),
                request = self.requests.recv() => match request {
                    Some(CoordinatorRequest::Group(id, request)) => self.take(id, *request),
                    Some(CoordinatorRequest::List(reply)) => drop(reply.send(Ok(self.list()))),
                    None => return,
                },
                _ = sweep.tick() => self.forget_unused().await,
                _ = turns.tick() => { self.now(); }
            }
            self.metrics.groups.set(self.groups.len() as i64);
            self.metrics.bytes.set(self.bytes as i64);
        }
    }

    /// The time as groups see it.
    fn now(&mut self) -> Instant {
        self.clock.turn(Instant::now())
    }

    fn take(&mut self, id: String, request: GroupRequest) {
        let now = self.now();
        match request {
            GroupRequest::Join(join, reply) => match self.group_to_join(&id, &join) {
                Some(group) => group.join(join, reply, now),
                None => drop(reply.send(Err(GroupError::UnknownMember))),
            },
            GroupRequest::Sync(sync, reply) => match self.group(&id) {
                Some(group) => group.sync(sync, reply, now),
                None => drop(reply.send(Err(GroupError::UnknownMember))),
            },
            GroupRequest::Heartbeat(who, reply) => {
                let alive = self.group(&id).map(|group| group.heartbeat(&who, now));
                let _ = reply.send(alive.unwrap_or(Err(GroupError::UnknownMember)));
            }
            GroupRequest::Leave(leaving, reply) => {
                let unknown = || leaving.iter().map(|_| Err(GroupError::UnknownMember)).collect();
                let left = self.group(&id).map(|group| group.leave(&leaving, now));
                let _ = reply.send(Ok(left.unwrap_or_else(unknown)));
            }
            GroupRequest::Commit(who, offsets, reply) => self.commit(&id, &who, offsets, reply, now),
            GroupRequest::View(reply) => {
                let seen = self.group(&id).map(|group| group.view()).ok_or(GroupError::UnknownGroup);
                let _ = reply.send(seen);
            }
            GroupRequest::Delete(reply) => self.delete(&id, reply),
            GroupRequest::ForgetOffsets(offsets, reply) => self.forget(&id, offsets, reply),
        }
        self.settle(&id);
    }

    fn list(&self) -> Vec<ListedGroup> {
        let listed = |(id, known): (&String, &Known)| {
            let (state, protocol_type) = (known.group.state(), known.group.protocol_type().to_owned());
            ListedGroup { id: id.clone(), protocol_type, state }
        };
        self.groups.iter().map(listed).collect()
    }

    /// A group, which may take what all groups together leave.
    fn group(&mut self, id: &str) -> Option<&mut Group> {
        let known = self.groups.get_mut(id)?;
        let left = self.limits.all_bytes_max.saturating_sub(self.bytes);
        known.group.limit_bytes(self.limits.bytes_max.min(known.group.bytes() + left));
        Some(&mut known.group)
    }

    /// A group comes into being with its first member; who has an id already was a member of one.
    fn group_to_join(&mut self, id: &str, join: &JoinRequest) -> Option<&mut Group> {
        if !self.groups.contains_key(id) {
            if !join.member_id.is_empty() {
                return None;
            }
            let group = Group::new(self.limits);
            self.groups.insert(id.into(), Known { group, armed: None, bytes: 0 });
        }
        self.group(id)
    }

    fn commit(&mut self, id: &str, who: &MemberClaim, offsets: Vec<PartitionOffset>, reply: Reply<()>, now: Instant) {
        let checked = match self.group(id) {
            Some(group) => group.check_commit(who, now),
            None if who.generation < 0 => Ok(()),
            None => Err(GroupError::UnknownGroup),
        };
        match checked {
            Ok(()) => self.propose(Command::CommitOffsets(CommitOffsets { group: id.into(), offsets }), reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn delete(&mut self, id: &str, reply: Reply<()>) {
        match self.group(id) {
            Some(group) if !group.is_empty() => drop(reply.send(Err(GroupError::NotEmpty))),
            _ => {
                self.forget_group(id);
                self.propose(Command::DeleteGroup(DeleteGroup { group: id.into() }), reply);
            }
        }
    }

    fn forget(&mut self, id: &str, offsets: Vec<OffsetToForget>, reply: Reply<Vec<Result<(), GroupError>>>) {
        let subscribed = match self.group(id).map(|group| group.view()) {
            Some(GroupView { generation, .. }) if !generation.members.is_empty() => {
                match retention::subscriptions(&generation) {
                    Some(topics) => topics,
                    None => return drop(reply.send(Err(GroupError::NotEmpty))),
                }
            }
            _ => Default::default(),
        };
        let refused = |offset: &OffsetToForget| subscribed.contains(&offset.topic);
        let outcomes: Vec<_> =
            offsets.iter().map(|offset| if refused(offset) { Err(GroupError::Subscribed) } else { Ok(()) }).collect();
        let forgotten = offsets.iter().filter(|offset| !refused(offset));
        let offsets: Vec<_> = forgotten
            .map(|offset| ForgottenOffset { topic: offset.id, partition: offset.partition, committed_at: None })
            .collect();
        if offsets.is_empty() {
            return drop(reply.send(Ok(outcomes)));
        }
        let proposed = self.lane.propose(Command::ForgetOffsets(ForgetOffsets { group: id.into(), offsets }));
        tokio::spawn(async move {
            let _ = reply.send(proposed.await.map(|_| outcomes).map_err(GroupError::from));
        });
    }

    fn propose(&self, command: Command, reply: Reply<()>) {
        let proposed = self.lane.propose(command);
        tokio::spawn(async move {
            let _ = reply.send(proposed.await.map_err(GroupError::from));
        });
    }

    fn saved(&mut self, id: &str, ticket: u64, is_durable: bool) {
        let now = self.now();
        if let Some(group) = self.group(id) {
            group.saved(ticket, is_durable, now);
        }
        self.settle(id);
    }

    fn tick(&mut self) {
        let now = self.now();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.due.pop_first() else { return };
            if let Some(known) = self.groups.get_mut(&id) {
                known.armed = None;
                known.group.tick(now);
            }
            self.settle(&id);
        }
    }

    /// After anything that may have changed a group: has saved what is to be saved, and looks after it in time.
    fn settle(&mut self, id: &str) {
        let Some(known) = self.groups.get_mut(id) else { return };
        for GroupSave { ticket, mut generation } in known.group.take_saves() {
            self.metrics.rebalances.inc();
            generation.since = now_ms();
            let saving = self.lane.propose(Command::SaveGroup(SaveGroup { group: id.into(), generation }));
            let id = id.to_string();
            self.saving.push(Box::pin(async move { (id, ticket, saving.await.is_ok()) }));
        }
        let bytes = id.len() + known.group.bytes();
        self.bytes = self.bytes - std::mem::replace(&mut known.bytes, bytes) + bytes;
        if known.group.is_empty() && !known.group.had_members() {
            return self.forget_group(id);
        }
        let check_at = known.group.check_at();
        if check_at != known.armed {
            if let Some(at) = std::mem::replace(&mut known.armed, check_at) {
                self.due.remove(&(at, id.to_string()));
            }
            self.due.extend(check_at.map(|at| (at, id.to_string())));
        }
    }

    fn forget_group(&mut self, id: &str) {
        let Some(Known { armed, bytes, .. }) = self.groups.remove(id) else { return };
        self.bytes -= bytes;
        if let Some(at) = armed {
            self.due.remove(&(at, id.to_string()));
        }
    }

    /// Forgets offsets that were out of use for long enough, and groups that have none left.
    async fn forget_unused(&mut self) {
        let Ok(state) = self.lane.snapshot().await else { return };
        let forgotten = |id: &str| !state.groups.contains_key(id);
        let gone: Vec<_> = self
            .groups
            .iter()
            .filter(|(id, known)| known.group.is_empty() && forgotten(id))
            .map(|(id, _)| id.clone())
            .collect();
        if self.saving.is_empty() {
            gone.iter().for_each(|id| self.forget_group(id));
        }
        let now = now_ms();
        for (id, saved) in &state.groups {
            let members = self.groups.get(&**id).map(|known| known.group.view().generation);
            let offsets = retention::unused(saved, members.as_ref(), &state, self.retention, now);
            let is_left = members.is_some_and(|generation| !generation.members.is_empty());
            if !offsets.is_empty() || (saved.offsets.is_empty() && !is_left) {
                let forget = ForgetOffsets { group: id.to_string(), offsets };
                let forgetting = self.lane.propose(Command::ForgetOffsets(forget));
                let id = id.clone();
                tokio::spawn(async move {
                    if let Err(error) = forgetting.await {
                        tracing::warn!(group = %id, "offsets that are out of use were not forgotten: {error}");
                    }
                });
            }
        }
    }
}

impl From<LaneError> for GroupError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Refused(CommandRefusal::UnknownGroup) => Self::UnknownGroup,
            LaneError::Refused(CommandRefusal::TooManyGroups) => Self::TooManyGroups,
            _ => Self::NotSaved,
        }
    }
}
