//! The oldest segments go once nothing needs them, and none before.

use super::*;

fn drop_below(below: LogIndex) -> Command {
    Command::DropSegments(DropSegments { below, at: 6 })
}

fn forget_below(below: LogIndex) -> Command {
    Command::ForgetSegments(ForgetSegments { below, at: 7 })
}

/// What is held, and the lists by their last index.
fn left(state: &LaneState) -> (Vec<LogIndex>, Vec<LogIndex>) {
    let lists = state.segments.lists().iter().map(|list| list.last);
    (state.segments.held().map(|(_, segment)| segment.last).collect(), lists.collect())
}

/// Segments 1 to 2 and 3 to 4 of a topic, each with an open run, and 5 to 8 without any.
fn four_segments() -> LaneState {
    let mut state = half_archived();
    for last in [6, 8] {
        state.begin_frame(last.max(state.applied));
        let first = state.shipped_index() + 1;
        apply(&mut state, &[Command::RegisterSegment(segment(first, last, &[]))]).unwrap();
    }
    assert_eq!(state.shipped_index(), 8);
    state
}

#[test]
fn only_what_nothing_needs_is_dropped() {
    let mut state = four_segments();
    assert_eq!((state.needed_from(), state.oldest_needed().unwrap().named_at), (1, 10 * HOUR_MS + 5), "an open run");
    assert_eq!(apply(&mut state, &[drop_below(2)]), Err(CommandRefusal::SegmentsNeeded));
    let closed = close(&state, 1, 2);
    apply(&mut state, &[Command::ClosePage(closed)]).unwrap();
    assert_eq!((state.needed_from(), state.oldest_needed().unwrap().named_at), (1, 2), "a page");
    let compacted = compact(&state, 1);
    apply(&mut state, &[Command::ReplacePages(compacted)]).unwrap();
    assert_eq!(state.needed_from(), 3, "an open run behind it");
    for below in [4, LogIndex::MAX, 0] {
        assert_eq!(apply(&mut state, &[drop_below(below)]), Err(CommandRefusal::SegmentsNeeded), "{below}");
    }
    apply(&mut state, &[drop_below(3)]).unwrap();
    assert_eq!((state.segments.needed_from(), state.segments.begin()), (3, 1));
    assert_eq!(left(&state).0, [2, 4, 6, 8], "they are known until they are deleted");
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    assert_eq!(apply(&mut state, &[drop_below(9)]), Err(CommandRefusal::SegmentsNeeded), "one after the other");
    apply(&mut state, &[forget_below(3)]).unwrap();
    assert_eq!((state.needed_from(), state.oldest_needed()), (9, None));
    apply(&mut state, &[drop_below(9)]).unwrap();
    check_invariants(&state);
}

#[test]
fn what_is_dropped_is_forgotten_piece_by_piece_and_lists_with_the_last_of_theirs() {
    let mut state = four_segments();
    let listed = list(&state, 3);
    apply(&mut state, &[Command::ListSegments(listed)]).unwrap();
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    apply(&mut state, &[drop_below(9)]).unwrap();
    assert_eq!(left(&state), (vec![8], vec![6]));
    for (below, expected) in [(5, (vec![8], vec![6])), (7, (vec![8], vec![])), (9, (vec![], vec![]))] {
        apply(&mut state, &[forget_below(below)]).unwrap();
        assert_eq!((left(&state), state.segments.begin()), (expected, below));
        assert_eq!(state.tombstones.contains_key("list-6"), below > 6);
        let again = apply(&mut state, &[forget_below(below)]);
        assert_eq!(again, Err(CommandRefusal::SegmentsNotDropped), "doubled");
        check_invariants(&state);
        let stored = checkpoint::encode(&state, CLUSTER, LANE);
        assert_eq!(checkpoint::decode("c", stored, CLUSTER, LANE).unwrap(), state);
    }
    assert_eq!((state.segments.dropped(), state.segments.listed_index()), (None, 8));
    assert_eq!((state.tombstones["list-6"].at, state.tombstones["list-6"].with_all), (7, false));
    assert_eq!(apply(&mut state, &[forget_below(10)]), Err(CommandRefusal::SegmentsNotDropped));
    state.begin_frame(20);
    apply(&mut state, &[Command::RegisterSegment(segment(9, 12, &[]))]).unwrap();
    let listed = list(&state, 1);
    assert_eq!(listed.list.first, 9);
    apply(&mut state, &[Command::ListSegments(listed)]).unwrap();
    check_invariants(&state);
}

#[test]
fn no_more_is_forgotten_than_was_dropped() {
    let mut state = four_segments();
    assert_eq!(apply(&mut state, &[forget_below(3)]), Err(CommandRefusal::SegmentsNotDropped));
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(10))]))]).unwrap();
    apply(&mut state, &[drop_below(3)]).unwrap();
    let before = state.clone();
    assert_eq!(apply(&mut state, &[forget_below(5)]), Err(CommandRefusal::SegmentsNotDropped));
    assert_eq!(state.segments, before.segments);
}

#[test]
fn no_page_comes_that_needs_a_segment_that_was_dropped() {
    let mut state = four_segments();
    let closed = close(&state, 1, 2);
    let object = closed.page.object.clone();
    apply(&mut state, &[Command::ClosePage(closed)]).unwrap();
    let uncompacted = pages_of(&state);
    let compacted = compact(&state, 1);
    apply(&mut state, &[Command::ReplacePages(compacted)]).unwrap();
    let again = |state: &LaneState| ReplacePages {
        topic: topic(1),
        old: pages_of(state).iter().map(|page| page.object.clone()).collect(),
        new: vec![PageEntry { object: "again".into(), ..PageEntry::clone(&uncompacted[0]) }],
        gone: vec![],
        deleted: vec![],
        at: 6,
    };
    assert_eq!(state.replaceable(&again(&state)), Ok(0..1), "it holds the same");
    apply(&mut state, &[drop_below(3)]).unwrap();
    assert_eq!(state.replaceable(&again(&state)), Err(CommandRefusal::PagesNotReplaceable));
    apply(&mut state, &[forget_below(3)]).unwrap();
    assert_eq!(state.replaceable(&again(&state)), Err(CommandRefusal::PagesNotReplaceable));
    let mut closed = close(&state, 1, 4);
    assert!(state.closable(&closed).is_ok() && closed.page.object != object);
    closed.page.bounds.oldest_segment = uncompacted[0].bounds.oldest_segment;
    assert_eq!(state.closable(&closed), Err(CommandRefusal::PageOutOfPlace));
}

#[test]
fn a_lane_at_rest_has_nothing_that_is_worth_to_be_dropped() {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 1), append(1, 0, 0, 10)]).unwrap();
    apply(&mut state, &[Command::RegisterSegment(segment(1, 1, &[(1, 0, 0, 9)]))]).unwrap();
    assert!(!state.segments.are_worth_dropping(state.needed_from()), "its records are needed");
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, None)]))]).unwrap();
    assert!(state.segments.are_worth_dropping(state.needed_from()));
    apply(&mut state, &[drop_below(2), forget_below(2)]).unwrap();
    state.begin_frame(100);
    let mut is_worth = Vec::new();
    for index in 2..=65 {
        apply(&mut state, &[Command::RegisterSegment(segment(index, index, &[]))]).unwrap();
        is_worth.push(state.segments.are_worth_dropping(state.needed_from()));
    }
    assert!(!is_worth[..63].contains(&true), "what deletion has shipped");
    assert!(is_worth[63], "what clients have");
}
