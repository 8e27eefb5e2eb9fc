//! Segments that are listed leave the state, but for those that open runs point into; those that were dropped leave it
//! for good.

use std::collections::BTreeMap;

use super::*;

/// Ships what is not shipped, as a segment of these runs.
fn register(state: &mut LaneState, runs: &[(u128, i32, i64, i64)]) {
    let (first, last) = (state.shipped_index() + 1, state.applied);
    apply(state, &[Command::RegisterSegment(segment(first, last, runs))]).unwrap();
}

fn held(state: &LaneState) -> Vec<LogIndex> {
    state.segments.held().map(|(_, segment)| segment.last).collect()
}

/// Two segments with a run each, and one without.
fn three_segments() -> LaneState {
    let mut state = half_archived();
    register(&mut state, &[]);
    assert_eq!(held(&state), [2, 4, 6]);
    state
}

#[test]
fn a_listed_segment_goes_once_no_open_run_points_into_it() {
    let mut state = three_segments();
    let listed = list(&state, 3);
    apply(&mut state, &[Command::ListSegments(listed)]).unwrap();
    assert_eq!((held(&state), state.segments.listed_index()), (vec![2, 4], 6));
    let closed = close(&state, 1, 2);
    let mut renewed = state.clone();
    apply(&mut state, &[Command::ClosePage(closed)]).unwrap();
    assert_eq!(held(&state), [4], "a page names the other");
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, None)]))]).unwrap();
    assert!(held(&state).is_empty());
    apply(&mut renewed, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    assert!(held(&renewed).is_empty());
    apply(&mut renewed, &[create(1, "a", 1), append(1, 0, 0, 3)]).unwrap();
    register(&mut renewed, &[(1, 0, 0, 2)]);
    assert_eq!(held(&renewed), [renewed.shipped_index()], "what comes later is held");
}

#[test]
fn a_list_is_refused_unless_it_goes_on_where_the_last_one_ended() {
    let mut state = three_segments();
    let first = list(&state, 1);
    apply(&mut state, &[Command::ListSegments(first.clone())]).unwrap();
    let fitting = list(&state, 2).list;
    for (why, list) in [
        ("again", first.list),
        ("a gap", SegmentListEntry { first: 5, segments: 1, ..fitting.clone() }),
        ("from the first on", SegmentListEntry { first: 1, segments: 3, ..fitting.clone() }),
        ("another first index", SegmentListEntry { first: 5, ..fitting.clone() }),
        ("a part of a segment", SegmentListEntry { last: 5, segments: 1, ..fitting.clone() }),
        ("beyond what is registered", SegmentListEntry { last: 7, ..fitting.clone() }),
        ("one segment less", SegmentListEntry { segments: 1, ..fitting.clone() }),
        ("one segment more", SegmentListEntry { segments: 3, ..fitting.clone() }),
        ("nothing", SegmentListEntry { last: 2, segments: 0, ..fitting.clone() }),
        ("backwards", SegmentListEntry { last: 0, segments: 0, ..fitting.clone() }),
    ] {
        let mut copy = state.clone();
        let refused = apply(&mut copy, &[Command::ListSegments(ListSegments { list })]);
        assert_eq!(refused, Err(CommandRefusal::SegmentListOutOfPlace), "{why}");
        assert_eq!(copy.segments, state.segments, "{why}");
    }
    apply(&mut state, &[Command::ListSegments(ListSegments { list: fitting })]).unwrap();
    assert_eq!(state.segments.listed_index(), 6);
}

#[test]
fn a_checkpoint_without_a_segment_that_a_run_points_into_is_refused() {
    let mut state = three_segments();
    let whole = checkpoint::encode(&state, CLUSTER, LANE);
    assert_eq!(checkpoint::decode("whole", whole, CLUSTER, LANE).unwrap(), state);
    state.segments = LaneState::new(Incarnation(1)).segments;
    let refused = checkpoint::decode("hole", checkpoint::encode(&state, CLUSTER, LANE), CLUSTER, LANE).unwrap_err();
    assert_eq!(refused.to_string(), "section 3: a run points into a segment up to index 2, which is not there");
}

/// What a broker may do with segments, in any order. Topics, partitions and offsets are few.
#[derive(Clone, Debug)]
enum Step {
    Append(u128, i32),
    /// All that is appended and not shipped.
    Ship,
    /// The same by a recovery.
    Adopt,
    /// Nothing of the topic waits for an archive any more.
    Settle(u128),
    Close(u128),
    /// So many quarters of a partition.
    DeleteRecords(u128, i32, i64),
    /// The topic is deleted, and created again.
    Renew(u128),
    List(usize),
    /// All that is closed of the topic.
    Compact(u128),
    /// What nothing needs.
    Drop,
    /// A half of what was dropped, or all.
    Forget(bool),
    Recover,
}

fn any_step() -> impl Strategy<Value = Step> {
    let topic = 1..3u128;
    prop_oneof![
        6 => (topic.clone(), 0..2i32).prop_map(|(topic, partition)| Step::Append(topic, partition)),
        5 => Just(Step::Ship),
        1 => Just(Step::Adopt),
        3 => topic.clone().prop_map(Step::Settle),
        4 => topic.clone().prop_map(Step::Close),
        2 => (topic.clone(), 0..2i32, 0..5i64).prop_map(|(topic, partition, quarters)| {
            Step::DeleteRecords(topic, partition, quarters)
        }),
        1 => topic.clone().prop_map(Step::Renew),
        4 => (1..4usize).prop_map(Step::List),
        3 => topic.clone().prop_map(Step::Compact),
        3 => Just(Step::Drop),
        3 => any::<bool>().prop_map(Step::Forget),
        1 => Just(Step::Recover),
    ]
}

/// What was registered, whatever became of it.
#[derive(Default)]
struct Registered(BTreeMap<LogIndex, RegisterSegment>);

impl Registered {
    fn take(&mut self, state: &mut LaneState, step: Step) {
        match step {
            Step::Append(number, partition) => {
                let end = state.topics[&topic(number)].partitions[partition as usize].next_offset;
                apply(state, &[append(number, partition, end, 4)]).unwrap();
            }
            Step::Ship => {
                let segment = unshipped(state);
                apply(state, &[Command::RegisterSegment(segment.clone())]).unwrap();
                self.0.insert(segment.last, segment);
            }
            Step::Adopt => {
                let segment = unshipped(state);
                state.adopt_segment(&segment).unwrap();
                self.0.insert(segment.last, segment);
            }
            Step::Settle(number) => {
                let waiting = state.pending.iter().filter(|(id, _, _)| *id == topic(number));
                let run = |&(_, partition, first): &(TopicId, i32, i64)| ScannedRun {
                    segment: "segment".into(),
                    partition,
                    first,
                    reason: "given up".into(),
                };
                let runs = waiting.map(run).collect();
                apply(state, &[Command::GiveUp(GiveUp { topic: topic(number), runs })]).unwrap();
            }
            Step::Close(number) => {
                let limits = PageLimits { page_runs: 3, open_runs: 0, ..PageLimits::default() };
                let closable = closable(state, LogIndex::MAX, limits, 0);
                if let Some(closable) = closable.iter().find(|closable| closable.topic == topic(number)) {
                    let close = close(state, number, closable.last);
                    apply(state, &[Command::ClosePage(close)]).unwrap();
                }
            }
            Step::DeleteRecords(number, partition, quarters) => {
                let end = state.topics[&topic(number)].partitions[partition as usize].next_offset;
                let delete = delete_records(number, &[(partition, Some(end * quarters / 4))]);
                apply(state, &[Command::DeleteRecords(delete)]).unwrap();
            }
            Step::Renew(number) => {
                let delete = Command::DeleteTopic(DeleteTopic { id: topic(number), at: 0 });
                apply(state, &[delete, create(number, &number.to_string(), 2)]).unwrap();
            }
            Step::List(segments) => {
                if state.segments.unlisted().next().is_some() {
                    let listed = list(state, segments);
                    apply(state, &[Command::ListSegments(listed)]).unwrap();
                }
            }
            Step::Compact(number) => {
                if !state.topics[&topic(number)].pages.is_empty() {
                    let compacted = compact(state, number);
                    apply(state, &[Command::ReplacePages(compacted)]).unwrap();
                }
            }
            Step::Drop => {
                let below = state.needed_from();
                let may = state.segments.dropped().is_none() && state.segments.begin() < below;
                let dropped = apply(state, &[Command::DropSegments(DropSegments { below, at: 1 })]);
                assert_eq!(dropped.is_ok(), may);
            }
            Step::Forget(all) => {
                if let Some(dropped) = state.segments.dropped().copied() {
                    let (begin, end) = (state.segments.begin(), dropped.below);
                    let below = if all { end } else { begin + (end - begin).div_ceil(2) };
                    apply(state, &[Command::ForgetSegments(ForgetSegments { below, at: 1 })]).unwrap();
                }
            }
            Step::Recover => {
                let bytes = checkpoint::encode(state, CLUSTER, LANE);
                let decoded = checkpoint::decode("c", bytes, CLUSTER, LANE).unwrap();
                assert_eq!(decoded, *state);
                *state = decoded;
            }
        }
    }

    /// The state holds what is in no list and what an open run points into, as it was registered, and nothing else;
    /// what is forgotten is needed by nothing.
    fn check(&self, state: &LaneState) {
        let runs = state.topics.values().flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.runs);
        let open: BTreeSet<LogIndex> = runs.map(|run| run.segment.0).collect();
        let is_needed = |last: &LogIndex| *last > state.segments.listed_index() || open.contains(last);
        let needed = self.0.values().filter(|segment| is_needed(&segment.last));
        let held = state.segments.held().map(|(_, segment)| (segment.first, &*segment.key));
        assert!(held.eq(needed.map(|segment| (segment.first, segment.key.as_str()))));
        assert!(open.iter().all(|last| self.0[last].first >= state.segments.needed_from()));
        let listed = state.segments.listed_index();
        let unlisted = self.0.keys().filter(|last| **last > listed);
        assert!(unlisted.eq(state.segments.unlisted().map(|(_, segment)| &segment.last)), "none is in two places");
        check_invariants(state);
    }
}

/// The segment of all that is applied and not shipped.
fn unshipped(state: &mut LaneState) -> RegisterSegment {
    state.begin_frame(state.applied + 1);
    let mut runs = Vec::new();
    for (number, topic) in state.topics.values().map(|topic| (topic.id.0.as_u128(), topic)) {
        for (partition, known) in (0..).zip(&topic.partitions) {
            if known.shipped_to < known.next_offset {
                runs.push((number, partition, known.shipped_to, known.next_offset - 1));
            }
        }
    }
    segment(state.shipped_index() + 1, state.applied, &runs)
}

proptest! {
    #[test]
    fn what_open_runs_need_is_held_whatever_happens(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut state = LaneState::new(Incarnation(1));
        apply(&mut state, &[create(1, "1", 2), create(2, "2", 2)]).unwrap();
        let mut registered = Registered::default();
        for step in steps {
            registered.take(&mut state, step);
            registered.check(&state);
        }
    }
}
