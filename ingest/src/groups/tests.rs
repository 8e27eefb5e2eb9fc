//! What a group does, one rule of Kafka's `ClassicGroup` a test. Time is a number that the test moves.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::oneshot::{self, Receiver, error::TryRecvError};

use super::clock::{GroupClock, TURN_EVERY};
use super::group::{Group, GroupSave};
use super::request::SyncAnswer;
use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group, and the time as it sees it.
struct World {
    group: Group,
    now: Instant,
    ids: usize,
}

/// A member's answer, to be looked at as often as wanted.
struct Waiting<T>(Receiver<Result<T, GroupError>>);

impl<T> Waiting<T> {
    fn is_parked(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }

    fn answer(&mut self) -> Result<T, GroupError> {
        self.0.try_recv().unwrap()
    }
}

impl World {
    fn new() -> Self {
        Self::with(GroupLimits { initial_rebalance_delay: Duration::ZERO, ..GroupLimits::default() })
    }

    fn with(limits: GroupLimits) -> Self {
        Self { group: Group::new(limits), now: Instant::now(), ids: 0 }
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now);
    }

    fn join(&mut self, join: JoinRequest) -> Waiting<JoinAnswer> {
        let (reply, answer) = oneshot::channel();
        self.ids += 1;
        let join = JoinRequest { new_member_id: format!("{}-{}", join.client_id, self.ids), ..join };
        self.group.join(join, reply, self.now);
        Waiting(answer)
    }

    fn sync(&mut self, member: &JoinAnswer, assignments: &[(&str, &str)]) -> Waiting<SyncAnswer> {
        let assignments = assignments.iter().map(|(id, bytes)| (id.to_string(), Bytes::from(bytes.to_string())));
        let sync =
            SyncRequest { who: who(member), protocol_type: None, protocol: None, assignments: assignments.collect() };
        let (reply, answer) = oneshot::channel();
        self.group.sync(sync, reply, self.now);
        Waiting(answer)
    }

    fn heartbeat(&mut self, member: &JoinAnswer) -> Result<(), GroupError> {
        self.group.heartbeat(&who(member), self.now)
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let leave = LeavingMember { member_id: member_id.into(), instance_id: instance_id.map(Into::into) };
        self.group.leave(&[leave], self.now).remove(0)
    }

    /// Everything that was to be saved is durable.
    fn save(&mut self) -> Vec<GroupSave> {
        let saves = self.group.take_saves();
        saves.iter().for_each(|save| self.group.saved(save.ticket, true, self.now));
        saves
    }

    fn state(&self) -> &'static str {
        self.group.view().state
    }

    /// A stable group of these members; the first one leads.
    fn stable(&mut self, joins: &[JoinRequest]) -> Vec<JoinAnswer> {
        let mut waiting: Vec<_> = joins.iter().map(|join| self.join(join.clone())).collect();
        // The first one was alone, and comes again as soon as it hears of the others.
        if waiting.len() > 1 {
            let first = waiting[0].answer().unwrap();
            waiting[0] = self.join(JoinRequest { member_id: first.member_id, ..joins[0].clone() });
        }
        let members: Vec<_> = waiting.iter_mut().map(|waiting| waiting.answer().unwrap()).collect();
        let given: Vec<_> = members.iter().map(|member| (member.member_id.clone(), member.member_id.clone())).collect();
        let given: Vec<_> = given.iter().map(|(id, share)| (id.as_str(), share.as_str())).collect();
        let mut syncing: Vec<_> = members.iter().rev().map(|member| self.sync(member, &given)).collect();
        self.save();
        syncing.iter_mut().for_each(|syncing| drop(syncing.answer().unwrap()));
        assert_eq!(self.state(), "Stable");
        members
    }
}

fn who(member: &JoinAnswer) -> MemberClaim {
    MemberClaim { member_id: member.member_id.clone(), instance_id: None, generation: member.generation }
}

fn client(name: &str) -> JoinRequest {
    JoinRequest {
        member_id: String::new(),
        instance_id: None,
        new_member_id: String::new(),
        client_id: name.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", name)],
        needs_id: false,
        can_skip_assignment: true,
    }
}

fn static_client(name: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(name.into()), ..client(name) }
}

fn again(member: &JoinAnswer, name: &str) -> JoinRequest {
    JoinRequest { member_id: member.member_id.clone(), ..client(name) }
}

fn protocol(name: &str, metadata: &str) -> GroupProtocol {
    GroupProtocol { name: name.into(), metadata: Bytes::from(metadata.to_string()) }
}

#[test]
fn a_sole_member_leads_and_is_assigned_what_it_brings() {
    let mut world = World::new();
    let joined = world.join(client("a")).answer().unwrap();
    assert_eq!((joined.generation, joined.leader.as_str(), joined.protocol.as_deref()), (1, "a-1", Some("range")));
    assert_eq!(joined.members.len(), 1);
    let mut syncing = world.sync(&joined, &[("a-1", "all"), ("stranger", "nothing")]);
    assert!(syncing.is_parked(), "it is not saved yet");
    let saved = world.save();
    assert_eq!(syncing.answer().unwrap().assignment, "all");
    let generation = &saved[0].generation;
    assert_eq!((generation.id, generation.members.len()), (1, 1));
    assert_eq!((&generation.members[0].metadata[..], &generation.members[0].assignment[..]), (&b"a"[..], &b"all"[..]));
    assert_eq!(world.heartbeat(&joined), Ok(()));
}

#[test]
fn a_new_member_of_a_late_version_is_given_an_id_and_joins_with_it() {
    let mut world = World::new();
    let asks = JoinRequest { needs_id: true, ..client("a") };
    let member_id = "a-1".to_string();
    assert_eq!(world.join(asks.clone()).answer(), Err(GroupError::MemberIdRequired { member_id: member_id.clone() }));
    assert!(!world.group.is_empty());
    let joined = world.join(JoinRequest { member_id: member_id.clone(), ..asks.clone() }).answer().unwrap();
    assert_eq!(joined.member_id, member_id);
    let stranger = JoinRequest { member_id: "b-9".into(), ..asks };
    assert_eq!(world.join(stranger).answer(), Err(GroupError::UnknownMember));
}

#[test]
fn an_id_that_nobody_joins_with_holds_the_others_up_until_it_expires() {
    let mut world = World::new();
    let members = world.stable(&[client("a")]);
    let asks = JoinRequest { needs_id: true, ..client("b") };
    assert!(world.join(asks).answer().is_err());
    let mut waiting = world.join(again(&members[0], "a"));
    assert!(waiting.is_parked(), "b may join any moment");
    world.passes(SESSION);
    assert_eq!(waiting.answer().unwrap().generation, 2);
}

#[test]
fn members_are_told_to_join_again_and_those_that_do_not_are_dropped() {
    let mut world = World::new();
    let members = world.stable(&[client("a"), client("b")]);
    let mut third = world.join(client("c"));
    assert_eq!(world.heartbeat(&members[0]), Err(GroupError::Rebalancing));
    let mut first = world.join(again(&members[0], "a"));
    for _ in 0..6 {
        world.passes(SESSION - Duration::from_secs(1));
        let _ = world.heartbeat(&members[1]);
    }
    assert!(first.is_parked(), "the second one gives signs of life");
    world.passes(SESSION - Duration::from_secs(1));
    let (first, third) = (first.answer().unwrap(), third.answer().unwrap());
    assert_eq!((first.generation, first.members.len(), third.members.len()), (3, 2, 0));
    assert_eq!(first.leader, members[0].member_id, "the leader has joined again, and stays");
    assert_eq!(world.heartbeat(&members[1]), Err(GroupError::UnknownMember));
}

#[test]
fn a_leader_that_joins_again_rebalances_and_a_follower_only_with_other_metadata() {
    let mut world = World::new();
    let members = world.stable(&[client("a"), client("b")]);
    let current = world.join(again(&members[1], "b")).answer().unwrap();
    assert_eq!((current.generation, world.state()), (members[1].generation, "Stable"));
    let changed = JoinRequest { protocols: vec![protocol("range", "other")], ..again(&members[1], "b") };
    let mut changed = world.join(changed);
    assert!(changed.is_parked() && world.state() == "PreparingRebalance");
    let mut leader = world.join(again(&members[0], "a"));
    let (leader, _) = (leader.answer().unwrap(), changed.answer().unwrap());
    assert!(leader.members.iter().any(|member| member.metadata == "other"));

    let mut world = World::new();
    let members = world.stable(&[client("a"), client("b")]);
    assert!(world.join(again(&members[0], "a")).is_parked());
}

#[test]
fn a_lost_answer_to_a_join_is_given_again_while_the_leader_assigns() {
    let mut world = World::new();
    let first = world.join(client("a")).answer().unwrap();
    let repeated = world.join(again(&first, "a")).answer().unwrap();
    assert_eq!((repeated.generation, repeated.members.len()), (1, 1));
}

#[test]
fn a_rebalance_answers_members_that_wait_for_their_assignment() {
    let mut world = World::new();
    let mut members = [world.join(client("a")), world.join(client("b"))];
    let first = members[0].answer().unwrap();
    let mut first = world.join(again(&first, "a"));
    let (_, second) = (first.answer().unwrap(), members[1].answer().unwrap());
    let mut syncing = world.sync(&second, &[]);
    assert!(syncing.is_parked());
    let _third = world.join(client("c"));
    assert_eq!(syncing.answer(), Err(GroupError::Rebalancing));
}

#[test]
fn an_assignment_that_was_not_saved_in_time_counts_for_nothing() {
    let mut world = World::new();
    let first = world.join(client("a")).answer().unwrap();
    let mut syncing = world.sync(&first, &[("a-1", "old")]);
    let stale = world.group.take_saves().remove(0);
    let mut second = world.join(client("b"));
    assert_eq!(syncing.answer(), Err(GroupError::Rebalancing));
    let mut first = world.join(again(&first, "a"));
    let (first, _) = (first.answer().unwrap(), second.answer().unwrap());
    world.group.saved(stale.ticket, true, world.now);
    assert_eq!(world.state(), "CompletingRebalance");
    assert!(world.sync(&first, &[]).is_parked());
}

#[test]
fn an_assignment_that_can_not_be_saved_makes_members_try_again() {
    let mut world = World::new();
    let first = world.join(client("a")).answer().unwrap();
    let mut syncing = world.sync(&first, &[("a-1", "all")]);
    let save = world.group.take_saves().remove(0);
    world.group.saved(save.ticket, false, world.now);
    assert_eq!(syncing.answer(), Err(GroupError::NotSaved));
    assert_eq!(world.join(again(&first, "a")).answer().unwrap().generation, 2);
}

#[test]
fn members_that_do_not_ask_for_their_assignment_are_dropped() {
    let mut world = World::new();
    let mut members = [world.join(client("a")), world.join(client("b"))];
    let first = members[0].answer().unwrap();
    let mut first = world.join(again(&first, "a"));
    let (first, second) = (first.answer().unwrap(), members[1].answer().unwrap());
    let mut syncing = world.sync(&first, &[]);
    world.save();
    syncing.answer().unwrap();
    for _ in 0..7 {
        world.passes(SESSION - Duration::from_secs(1));
        let _ = (world.heartbeat(&first), world.heartbeat(&second));
    }
    assert_eq!(world.heartbeat(&second), Err(GroupError::UnknownMember));
    assert_eq!(world.heartbeat(&first), Err(GroupError::Rebalancing));
}

#[test]
fn a_silent_member_expires_and_the_others_share_what_was_its() {
    let mut world = World::new();
    let members = world.stable(&[client("a"), client("b")]);
    world.passes(SESSION - Duration::from_secs(1));
    assert_eq!(world.heartbeat(&members[1]), Ok(()));
    world.passes(Duration::from_secs(1));
    assert_eq!(world.heartbeat(&members[1]), Err(GroupError::Rebalancing));
    let second = world.join(again(&members[1], "b")).answer().unwrap();
    assert_eq!((second.leader.as_str(), second.members.len()), (second.member_id.as_str(), 1));
}

#[test]
fn the_last_member_leaves_an_empty_group_of_the_next_generation_which_is_saved() {
    let mut world = World::new();
    let members = world.stable(&[client("a")]);
    assert_eq!(world.leave(&members[0].member_id, None), Ok(()));
    assert_eq!((world.state(), world.group.is_empty()), ("Empty", true));
    let generation = &world.save()[0].generation;
    assert_eq!((generation.id, generation.members.len(), generation.protocol_type.as_str()), (2, 0, "consumer"));
    assert_eq!(world.heartbeat(&members[0]), Err(GroupError::UnknownMember));
    assert_eq!(world.leave(&members[0].member_id, None), Err(GroupError::UnknownMember));
}

#[test]
fn the_first_members_wait_for_others_and_no_longer_than_a_rebalance() {
    let delay = Duration::from_secs(3);
    let mut world = World::with(GroupLimits { initial_rebalance_delay: delay, ..GroupLimits::default() });
    let mut waiting = vec![world.join(client("a"))];
    world.passes(delay - Duration::from_secs(1));
    waiting.push(world.join(client("b")));
    world.passes(Duration::from_secs(1));
    assert!(waiting[0].is_parked(), "another one came, so more may come");
    world.passes(delay);
    assert!(waiting.iter_mut().all(|waiting| waiting.answer().unwrap().generation == 1));

    let mut world = World::with(GroupLimits { initial_rebalance_delay: delay, ..GroupLimits::default() });
    let mut first = world.join(client("a"));
    let mut parked = Vec::new();
    for _ in 0..REBALANCE.as_secs() / delay.as_secs() - 1 {
        parked.push(world.join(client("b")));
        world.passes(delay);
    }
    assert!(first.is_parked());
    parked.push(world.join(client("b")));
    world.passes(delay);
    assert_eq!(first.answer().unwrap().generation, 1);
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_of_those_that_all_know() {
    let mut world = World::new();
    let knows = |name, protocols: &[&str]| JoinRequest {
        protocols: protocols.iter().map(|known| protocol(known, name)).collect(),
        ..client(name)
    };
    let joins = [
        knows("a", &["sticky", "robin", "range"]),
        knows("b", &["robin", "range"]),
        knows("c", &["range", "robin"]),
        knows("d", &["robin", "range"]),
    ];
    let first = world.join(joins[0].clone()).answer().unwrap();
    assert_eq!(first.protocol.as_deref(), Some("sticky"));
    let mut waiting: Vec<_> = joins[1..].iter().map(|join| world.join(join.clone())).collect();
    let mut first = world.join(JoinRequest { member_id: first.member_id, ..joins[0].clone() });
    assert_eq!(first.answer().unwrap().protocol.as_deref(), Some("robin"));
    waiting.iter_mut().for_each(|waiting| drop(waiting.answer().unwrap()));
    for stranger in [knows("e", &["sticky"]), JoinRequest { protocol_type: "connect".into(), ..client("f") }] {
        assert_eq!(world.join(stranger).answer(), Err(GroupError::InconsistentProtocol));
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_former_client_is_fenced() {
    let mut world = World::new();
    let members = world.stable(&[static_client("a"), static_client("b")]);
    let (leader, follower) = (&members[0], &members[1]);
    let mut waiting = world.join(static_client("a"));
    assert!(waiting.is_parked(), "its new id is not saved yet");
    assert_eq!(world.save()[0].generation.members.len(), 2);
    let back = waiting.answer().unwrap();
    assert_eq!((back.generation, back.skip_assignment, back.members.len()), (leader.generation, true, 2));
    assert_eq!(back.leader, back.member_id);
    assert_eq!(world.sync(&back, &[]).answer().unwrap().assignment, leader.member_id.as_str());
    let former = MemberClaim { instance_id: Some("a".into()), ..who(leader) };
    assert_eq!(world.group.heartbeat(&former, world.now), Err(GroupError::FencedInstance));

    let mut waiting = world.join(JoinRequest { can_skip_assignment: false, ..static_client("a") });
    world.save();
    let older = waiting.answer().unwrap();
    assert_eq!((older.leader, older.members.len()), (back.member_id, 0), "it must not take itself for the leader");
    assert_eq!(world.heartbeat(follower), Ok(()));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_static_member_is_kept_while_others_rebalance_until_its_session_ends() {
    let mut world = World::new();
    let members = world.stable(&[static_client("a"), client("b")]);
    let mut third = world.join(client("c"));
    let mut second = world.join(again(&members[1], "b"));
    for _ in 0..6 {
        world.passes(SESSION - Duration::from_secs(1));
        let _ = world.heartbeat(&members[0]);
    }
    world.passes(SESSION - Duration::from_secs(1));
    let (second, _) = (second.answer().unwrap(), third.answer().unwrap());
    assert_eq!(second.members.len(), 3, "the leader assigns to the one that is away, too");
    assert_eq!(world.group.view().generation.members.len(), 3);
    world.passes(SESSION);
    assert_eq!(world.group.view().generation.members.len(), 0, "nobody gave a sign of life");
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance() {
    let mut world = World::new();
    world.stable(&[static_client("a"), client("b")]);
    assert_eq!(world.leave("", Some("nobody")), Err(GroupError::UnknownMember));
    assert_eq!(world.leave("other", Some("a")), Err(GroupError::FencedInstance));
    assert_eq!(world.leave("", Some("a")), Ok(()));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn commits_are_for_members_of_the_generation_and_for_clients_of_an_empty_group() {
    let mut world = World::new();
    let alone = MemberClaim { generation: -1, ..MemberClaim::default() };
    assert_eq!(world.group.check_commit(&alone, world.now), Ok(()));
    let joined = world.join(client("a")).answer().unwrap();
    assert_eq!(world.group.check_commit(&who(&joined), world.now), Err(GroupError::Rebalancing));
    world.sync(&joined, &[]);
    world.save();
    assert_eq!(world.group.check_commit(&who(&joined), world.now), Ok(()));
    assert_eq!(world.group.check_commit(&alone, world.now), Err(GroupError::UnknownMember));
    let late = MemberClaim { generation: 0, ..who(&joined) };
    assert_eq!(world.group.check_commit(&late, world.now), Err(GroupError::IllegalGeneration));
    let fenced = MemberClaim { instance_id: Some("x".into()), ..who(&joined) };
    assert_eq!(world.group.check_commit(&fenced, world.now), Err(GroupError::UnknownMember));
    let _second = world.join(client("b"));
    assert_eq!(world.group.check_commit(&who(&joined), world.now), Ok(()), "what it has done before it joins again");
}

#[test]
fn a_restored_group_goes_on_without_a_rebalance() {
    let mut world = World::new();
    let members = world.stable(&[static_client("a"), client("b")]);
    let saved = world.group.view().generation;
    world.group = Group::restored(GroupLimits::default(), &saved, world.now);
    assert_eq!(world.group.view().generation, saved);
    assert_eq!((world.heartbeat(&members[0]), world.heartbeat(&members[1])), (Ok(()), Ok(())));
    assert_eq!(world.sync(&members[1], &[]).answer().unwrap().assignment, members[1].member_id.as_str());
    world.passes(SESSION);
    assert_eq!(world.group.view().generation.members.len(), 0, "sessions run on");
}

#[test]
fn a_group_takes_no_more_members_and_bytes_than_it_may() {
    let limits = GroupLimits { members_max: 2, bytes_max: 1000, ..GroupLimits::default() };
    let mut world = World::with(limits);
    let mut waiting = [world.join(client("a")), world.join(client("b"))];
    assert!(waiting.iter_mut().all(Waiting::is_parked));
    assert_eq!(world.join(client("c")).answer(), Err(GroupError::Full));
    let mut world = World::with(GroupLimits { initial_rebalance_delay: Duration::ZERO, ..limits });
    let talkative = JoinRequest { protocols: vec![protocol("range", &"x".repeat(1000))], ..client("a") };
    assert_eq!(world.join(talkative).answer(), Err(GroupError::Full));
    let joined = world.join(client("a")).answer().unwrap();
    let mut syncing = world.sync(&joined, &[(&joined.member_id, &"x".repeat(1000))]);
    assert_eq!(syncing.answer(), Err(GroupError::Full));
    for timeout in [Duration::from_secs(5), Duration::from_secs(1801)] {
        let refused = world.join(JoinRequest { session_timeout: timeout, ..client("b") }).answer();
        assert!(matches!(refused, Err(GroupError::SessionTimeout { .. })));
    }
}

/// A coordinator's turns while so much time passes.
fn turns(world: &mut World, clock: &mut GroupClock, time: &mut Instant, passes: Duration) {
    let end = *time + passes;
    while *time < end {
        *time = end.min(*time + TURN_EVERY);
        world.now = clock.turn(*time);
        world.group.tick(world.now);
    }
}

#[test]
fn members_are_heard_after_the_broker_was_suspended_and_expire_if_they_are_silent_then() {
    let mut world = World::new();
    let mut time = world.now;
    let mut clock = GroupClock::new(time);
    let members = world.stable(&[client("a"), client("b")]);
    turns(&mut world, &mut clock, &mut time, SESSION - Duration::from_millis(1));
    for _ in 0..3 {
        time += SESSION * 100;
        world.now = clock.turn(time);
        world.group.tick(world.now);
        assert!(clock.when(world.now) == time, "timers are set by it");
        turns(&mut world, &mut clock, &mut time, Duration::from_secs(4));
    }
    assert_eq!(world.heartbeat(&members[0]), Ok(()));
    turns(&mut world, &mut clock, &mut time, Duration::from_secs(4));
    assert_eq!(world.heartbeat(&members[0]), Err(GroupError::Rebalancing));
    assert_eq!(world.heartbeat(&members[1]), Err(GroupError::UnknownMember));
}

/// What clients may do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, known: bool, is_static: bool, needs_id: bool },
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Save(bool),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(client, known, is_static, needs_id)| Step::Join { client, known, is_static, needs_id }),
        3 => (0..4_usize).prop_map(Step::Sync),
        2 => (0..4_usize).prop_map(Step::Heartbeat),
        1 => (0..4_usize).prop_map(Step::Leave),
        2 => any::<bool>().prop_map(Step::Save),
        2 => (0..70_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever clients do: everyone is answered in the end, generations only rise, and a group without clients empties.
    #[test]
    fn nobody_waits_for_ever(steps in prop::collection::vec(any_step(), 0..60)) {
        let limits = GroupLimits { initial_rebalance_delay: Duration::from_secs(3), ..GroupLimits::default() };
        let mut world = World::with(limits);
        let mut known: [Option<JoinAnswer>; 4] = Default::default();
        let (mut joining, mut syncing) = (Vec::new(), Vec::new());
        let mut generation = 0;
        for step in steps {
            match step {
                Step::Join { client: number, known: is_known, is_static, needs_id } => {
                    let name = number.to_string();
                    let member_id = known[number].as_ref().filter(|_| is_known).map(|known| known.member_id.clone());
                    let instance_id = is_static.then(|| name.clone());
                    let member_id = member_id.unwrap_or_default();
                    joining.push((number, world.join(JoinRequest { member_id, instance_id, needs_id, ..client(&name) })));
                }
                Step::Sync(number) => {
                    if let Some(member) = &known[number] {
                        syncing.push(world.sync(member, &[("0-1", "some")]));
                    }
                }
                Step::Heartbeat(number) => {
                    if let Some(member) = &known[number] {
                        let _ = world.heartbeat(member);
                    }
                }
                Step::Leave(number) => {
                    if let Some(member) = known[number].take() {
                        let _ = world.leave(&member.member_id, None);
                    }
                }
                Step::Save(is_durable) => {
                    for save in world.group.take_saves() {
                        world.group.saved(save.ticket, is_durable, world.now);
                    }
                }
                Step::Pass(seconds) => world.passes(Duration::from_secs(seconds)),
            }
            joining.retain_mut(|(number, waiting)| match waiting.0.try_recv() {
                Ok(Ok(joined)) => {
                    known[*number] = Some(joined);
                    false
                }
                outcome => outcome.is_err_and(|error| error == TryRecvError::Empty),
            });
            prop_assert_eq!(world.group.bytes(), world.group.counted_bytes());
            let now = world.group.view().generation.id;
            prop_assert!(now >= generation);
            generation = now;
        }
        for _ in 0..20 {
            world.save();
            world.passes(REBALANCE * 6);
        }
        prop_assert!(world.group.is_empty() && world.group.bytes() == 0, "{:?}", world.group);
        for (_, waiting) in &mut joining {
            prop_assert!(!waiting.is_parked());
        }
        for waiting in &mut syncing {
            prop_assert!(!waiting.is_parked());
        }
    }
}
