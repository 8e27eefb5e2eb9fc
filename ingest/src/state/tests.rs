#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dropping;
mod listing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_format::batch::TimeSpan;
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{PageBounds, PageEntry, PartitionBounds, WaitingRuns};
use chronik_format::ids::{Incarnation, LaneId, LogIndex, Offset, PartitionId, TopicId};
use chronik_format::job::CoveredRun;
use chronik_format::names::SegmentName;
use chronik_format::origin::Origin;
use chronik_format::segment_list::SegmentListEntry;
use chronik_format::span::{ByteSpan, OffsetSpan};
use proptest::prelude::*;
use ulid::Ulid;
use uuid::Uuid;

use super::command::{
    AddPartitions, AlterTopicConfig, Append, ArchiveFacts, ClosePage, Command, CommandError, CommitOffsets,
    CreateTopic, DeleteGroup, DeleteRecords, DeleteTopic, DropSegments, FirstKept, ForgetOffsets, ForgetProducers,
    ForgetResults, ForgetSegments, ForgetTombstones, ForgottenOffset, GiveUp, ListSegments, NewProducerId,
    PartitionOffset, RegisterResult, RegisterSegment, ReplacePages, SaveGroup, ScannedRun, SegmentRun, SilentProducer,
};
use super::group::{CommittedOffset, Generation, GroupMember};
use super::partition::IndexStatus;
use super::pending::PendingRuns;
use super::producer::{ProducerStamp, SequenceError, producer_id};
use super::refusal::CommandRefusal;
use super::segments::SegmentId;
use super::topic_config::{ConfigChange, ConfigError, TopicConfig};
use super::{LaneState, checkpoint};
use crate::publish::closing::closable;
use crate::publish::folding::{FoldablePages, foldable};
use crate::publish::pages::PageLimits;
use crate::publish::topic_runs::open_runs;

const CLUSTER: Uuid = Uuid::from_u128(7);
const LANE: LaneId = LaneId(0);
const HOUR_MS: i64 = 60 * 60 * 1000;

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn create(number: u128, name: &str, partitions: i32) -> Command {
    let config = TopicConfig::new([("search.positions".to_owned(), "true".to_owned())]).unwrap();
    Command::CreateTopic(CreateTopic { id: topic(number), name: name.into(), partitions, config })
}

fn alter(number: u128, name: &str, value: Option<&str>) -> Command {
    let change = ConfigChange::new(false, [(name.to_owned(), value.map(Into::into))]).unwrap();
    Command::AlterTopicConfig(AlterTopicConfig { topic: topic(number), change })
}

fn add_partitions(number: u128, count: i32) -> Command {
    Command::AddPartitions(AddPartitions { topic: topic(number), count })
}

fn delete_records(number: u128, kept: &[(i32, Option<i64>)]) -> DeleteRecords {
    let first_kept = |&(partition, offset): &(i32, Option<i64>)| FirstKept { partition, offset };
    DeleteRecords { topic: topic(number), partitions: kept.iter().map(first_kept).collect(), at: 12 * HOUR_MS }
}

fn append(number: u128, partition: i32, base_offset: i64, records: i64) -> Command {
    Command::Append(Append {
        topic: topic(number),
        partition,
        base_offset,
        last_offset: base_offset + records - 1,
        position: 0,
        length: 100,
        producer: None,
    })
}

fn commit(group: &str, number: u128, partition: i32, offset: i64, at: i64) -> CommitOffsets {
    let committed = CommittedOffset { offset, leader_epoch: 1, metadata: "mine".into(), at };
    let offsets = vec![PartitionOffset { topic: topic(number), partition, committed }];
    CommitOffsets { group: group.into(), offsets }
}

fn save(group: &str, id: i32, members: usize) -> Command {
    let member = |number: usize| GroupMember {
        id: format!("member-{number}"),
        instance_id: Some(format!("instance-{number}")),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        metadata: Bytes::from_static(b"subscription"),
        assignment: Bytes::from_static(b"assignment"),
    };
    let members: Vec<_> = (0..members).map(member).collect();
    let generation = Generation {
        id,
        protocol_type: "consumer".into(),
        protocol: (!members.is_empty()).then(|| "range".into()),
        leader: members.first().map(|member| member.id.clone()),
        members,
        since: 9,
    };
    Command::SaveGroup(SaveGroup { group: group.into(), generation })
}

fn forget(group: &str, number: u128, committed_at: Option<i64>) -> Command {
    let offsets = vec![ForgottenOffset { topic: topic(number), partition: 0, committed_at }];
    Command::ForgetOffsets(ForgetOffsets { group: group.into(), offsets })
}

fn forget_producer(number: u128, last_at: i64) -> Command {
    let producers = vec![SilentProducer { id: 7, last_at }];
    Command::ForgetProducers(ForgetProducers { topic: topic(number), partition: 0, producers })
}

/// An append of producer 7.
fn numbered(number: u128, base_offset: i64, records: i64, base_sequence: i32) -> Command {
    let Command::Append(append) = append(number, 0, base_offset, records) else { unreachable!() };
    Command::Append(Append { producer: Some(ProducerStamp { id: 7, epoch: 0, base_sequence, at: 9 }), ..append })
}

fn committed(state: &LaneState, group: &str, number: u128) -> Option<i64> {
    Some(state.groups.get(group)?.offsets.get(&(topic(number), 0))?.offset)
}

/// The name of the segment of a range.
fn key(first: LogIndex, last: LogIndex) -> String {
    SegmentName { lane: LANE, incarnation: Incarnation(1), first, last, ulid: Ulid::from_parts(last, 0) }.to_string()
}

fn segment(first: LogIndex, last: LogIndex, runs: &[(u128, i32, i64, i64)]) -> RegisterSegment {
    let run = |&(number, partition, first, last): &(u128, i32, i64, i64)| SegmentRun {
        topic: topic(number),
        partition,
        offsets: OffsetSpan { first, last },
        bytes: ByteSpan { position: 56, length: 100 },
        times: TimeSpan { earliest: 0, latest: 1000 },
    };
    RegisterSegment {
        incarnation: Incarnation(1),
        first,
        last,
        key: key(first, last),
        size: 1000,
        crc: 1,
        directory_position: 500,
        named_at: 10 * HOUR_MS,
        at: 10 * HOUR_MS + 5,
        runs: runs.iter().map(run).collect(),
    }
}

fn result(name: &str, archive: &str, segment: &str, first: i64, last: i64) -> RegisterResult {
    let run = CoveredRun {
        segment: segment.into(),
        partition: 0,
        first,
        last,
        min_timestamp: Some(1),
        max_timestamp: Some(2),
    };
    let archive =
        ArchiveFacts { key: archive.into(), size: 10, crc: 2, records: 3, named_at: 10 * HOUR_MS, runs: vec![run] };
    RegisterResult {
        result: name.into(),
        topic: topic(1),
        index_epoch: 0,
        at: 11 * HOUR_MS,
        archives: vec![archive],
        unreadable: Vec::new(),
    }
}

/// One topic of one partition with records 0 to 9 in segment 1 to 2.
fn shipped() -> LaneState {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 1)]).unwrap();
    apply(&mut state, &[append(1, 0, 0, 10)]).unwrap();
    apply(&mut state, &[Command::RegisterSegment(segment(1, 2, &[(1, 0, 0, 9)]))]).unwrap();
    state
}

fn apply(state: &mut LaneState, commands: &[Command]) -> Result<(), CommandRefusal> {
    let index = state.applied + 1;
    state.apply_frame(index, commands).into_iter().collect()
}

#[test]
fn a_taken_name_is_refused_until_its_topic_is_deleted() {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 1)]).unwrap();
    assert_eq!(apply(&mut state, &[create(2, "a", 1)]), Err(CommandRefusal::TopicExists));
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    assert_eq!(apply(&mut state, &[append(1, 0, 0, 1)]), Err(CommandRefusal::UnknownTopic));
    apply(&mut state, &[create(2, "a", 1)]).unwrap();
    assert_eq!(state.topic_named("a").unwrap().id, topic(2));
}

#[test]
fn an_append_below_the_end_is_refused_and_one_above_it_stands() {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 2), append(1, 1, 0, 5)]).unwrap();
    assert_eq!(
        apply(&mut state, &[append(1, 1, 4, 1)]),
        Err(CommandRefusal::BelowEnd { base_offset: 4, next_offset: 5 })
    );
    assert_eq!(apply(&mut state, &[append(1, 2, 0, 1)]), Err(CommandRefusal::UnknownPartition));
    apply(&mut state, &[append(1, 1, 7, 1)]).unwrap();
    assert_eq!(state.topics[&topic(1)].partitions[1].next_offset, 8);
}

#[test]
fn a_segment_is_accepted_only_where_the_last_one_ended() {
    let accepted = shipped();
    assert_eq!((accepted.shipped_index(), accepted.topics[&topic(1)].partitions[0].shipped_to), (2, 10));
    let mut state = accepted.clone();
    apply(&mut state, &[append(1, 0, 10, 5)]).unwrap();
    let good = segment(3, 4, &[(1, 0, 10, 14)]);
    let bad = [
        ("not contiguous", RegisterSegment { first: 4, ..good.clone() }),
        ("registered already", segment(1, 2, &[(1, 0, 0, 9)])),
        ("not committed", RegisterSegment { last: 5, ..good.clone() }),
        ("another owner's", RegisterSegment { incarnation: Incarnation(2), ..good.clone() }),
        ("too old", RegisterSegment { at: 16 * HOUR_MS, ..good.clone() }),
        ("beyond the partition's end", segment(3, 4, &[(1, 0, 10, 15)])),
        ("below what is shipped", segment(3, 4, &[(1, 0, 9, 14)])),
    ];
    for (why, segment) in bad {
        let mut copy = state.clone();
        let refused = apply(&mut copy, &[Command::RegisterSegment(segment)]);
        let expected = match why {
            "too old" => CommandRefusal::SegmentTooOld,
            _ => CommandRefusal::SegmentOutOfPlace,
        };
        assert_eq!(refused, Err(expected), "{why}");
        assert_eq!(copy.topics, state.topics, "{why}: nothing of it is taken in");
    }
    apply(&mut state, &[Command::RegisterSegment(good)]).unwrap();
    assert_eq!(state.shipped_index(), 4);
}

#[test]
fn runs_of_a_topic_deleted_meanwhile_are_left_out_of_its_segment() {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 1), create(2, "b", 1), append(1, 0, 0, 3), append(2, 0, 0, 3)]).unwrap();
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    let both = segment(1, 1, &[(1, 0, 0, 2), (2, 0, 0, 2)]);
    apply(&mut state, &[Command::RegisterSegment(both)]).unwrap();
    assert_eq!(state.topics[&topic(2)].partitions[0].shipped_to, 3);
}

#[test]
fn the_first_valid_archive_of_a_run_wins_and_a_repeated_one_changes_nothing() {
    let mut state = shipped();
    let winner = result("r1", "archive-1", &key(1, 2), 0, 9);
    apply(&mut state, &[Command::RegisterResult(winner.clone())]).unwrap();
    let run = &state.topics[&topic(1)].partitions[0].runs[0];
    assert_eq!(run.indexed, IndexStatus::Archive("archive-1".into()));
    let once = state.clone();
    apply(&mut state, &[Command::RegisterResult(winner)]).unwrap();
    assert_eq!((&state.topics, &state.tombstones), (&once.topics, &once.tombstones));
    apply(&mut state, &[Command::RegisterResult(result("r2", "archive-2", &key(1, 2), 0, 9))]).unwrap();
    assert_eq!(state.topics, once.topics);
    assert!(state.tombstones.contains_key("archive-2") && !state.tombstones.contains_key("archive-1"));
}

#[test]
fn an_archive_that_does_not_fit_is_tombstoned() {
    let fitting = result("r", "archive", &key(1, 2), 0, 9);
    let old = RegisterResult { at: 17 * HOUR_MS, ..fitting.clone() };
    let bad = [
        ("another segment", result("r", "archive", "segment-9", 0, 9)),
        ("a part of a run", result("r", "archive", &key(1, 2), 0, 8)),
        ("another epoch", RegisterResult { index_epoch: 1, ..fitting.clone() }),
        ("too old", old),
    ];
    for (why, result) in bad {
        let mut state = shipped();
        apply(&mut state, &[Command::RegisterResult(result)]).unwrap();
        assert!(state.tombstones.contains_key("archive"), "{why}");
        assert_eq!(state.topics[&topic(1)].partitions[0].archived_to(), 0, "{why}");
    }
}

#[test]
fn a_run_given_up_is_not_pending_and_may_still_get_an_archive() {
    let mut state = shipped();
    let run = ScannedRun { segment: key(1, 2), partition: 0, first: 0, reason: "sent three times".into() };
    apply(&mut state, &[Command::GiveUp(GiveUp { topic: topic(1), runs: vec![run] })]).unwrap();
    assert_eq!((state.topics[&topic(1)].partitions[0].archived_to(), state.pending.iter().next()), (0, None));
    apply(&mut state, &[Command::RegisterResult(result("r", "archive", &key(1, 2), 0, 9))]).unwrap();
    assert_eq!(state.topics[&topic(1)].partitions[0].archived_to(), 10);
}

#[test]
fn an_archive_that_was_let_go_of_stays_dead_until_its_tombstone_is_forgotten() {
    let mut state = shipped();
    let late = RegisterResult { at: 17 * HOUR_MS, ..result("r", "archive", &key(1, 2), 0, 9) };
    apply(&mut state, &[Command::RegisterResult(late)]).unwrap();
    let again = Command::RegisterResult(result("r", "archive", &key(1, 2), 0, 9));
    apply(&mut state, &[again]).unwrap();
    assert!(state.topics[&topic(1)].archives.is_empty());
    let forget = |object: &str| Command::ForgetTombstones(ForgetTombstones { objects: vec![object.into()] });
    apply(&mut state, &[forget("another")]).unwrap();
    assert!(state.tombstones.contains_key("archive"));
    apply(&mut state, &[forget("archive")]).unwrap();
    assert!(state.tombstones.is_empty());
}

#[test]
fn a_deleted_topic_lets_go_of_its_archives() {
    let mut state = shipped();
    apply(&mut state, &[Command::RegisterResult(result("r", "archive", &key(1, 2), 0, 9))]).unwrap();
    assert!(state.tombstones.is_empty());
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 7 })]).unwrap();
    let tombstone = state.tombstones["archive"];
    assert_eq!((tombstone.index, tombstone.at), (state.applied, 7));
    apply(&mut state, &[Command::RegisterResult(result("r2", "late", &key(1, 2), 0, 9))]).unwrap_err();
    assert!(state.tombstones.contains_key("late"), "an archive of a topic that is gone is not needed");
}

#[test]
fn a_new_incarnation_begins_an_epoch_at_the_end_of_every_partition() {
    let mut state = shipped();
    state.begin_incarnation(Incarnation(2));
    state.begin_incarnation(Incarnation(5));
    assert_eq!(state.topics[&topic(1)].partitions[0].epochs, imbl::vector![(1, 0), (5, 10)]);
}

#[test]
fn changes_of_settings_add_up_and_are_seen_by_readers() {
    let mut state = shipped();
    apply(&mut state, &[alter(1, "max.message.bytes", Some("9")), alter(1, "search.positions", None)]).unwrap();
    let changed = &state.topics[&topic(1)];
    assert_eq!(changed.config.entries().collect::<Vec<_>>(), [("max.message.bytes", "9")]);
    assert_eq!((changed.changed, changed.batch_bytes_max), (state.applied, 1_048_588), "older batches are larger");
    assert_eq!(apply(&mut state, &[alter(2, "max.message.bytes", None)]), Err(CommandRefusal::UnknownTopic));
}

#[test]
fn what_was_ordered_under_other_settings_is_not_taken_and_what_is_there_stays() {
    let mut state = shipped();
    let ordered = result("r", "archive", &key(1, 2), 0, 9);
    let mut altered = state.clone();
    apply(&mut altered, &[alter(1, "search.value.format", Some("text"))]).unwrap();
    apply(&mut altered, &[Command::RegisterResult(ordered.clone())]).unwrap();
    assert_eq!(altered.topics[&topic(1)].partitions[0].archived_to(), 0);
    assert!(altered.tombstones.contains_key("archive"));
    assert_eq!(altered.pending.iter().count(), 1, "it is ordered again");

    apply(&mut state, &[Command::RegisterResult(ordered)]).unwrap();
    apply(&mut state, &[alter(1, "search.value.format", Some("text"))]).unwrap();
    assert_eq!((state.topics[&topic(1)].partitions[0].archived_to(), state.pending.iter().count()), (10, 0));
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut state = shipped();
    for count in [i32::MIN, 0, 1] {
        let refused = apply(&mut state, &[add_partitions(1, count)]);
        assert_eq!(refused, Err(CommandRefusal::HasPartitions { partitions: 1 }), "{count}");
    }
    state.begin_incarnation(Incarnation(3));
    apply(&mut state, &[add_partitions(1, 3), append(1, 2, 0, 4)]).unwrap();
    let grown = &state.topics[&topic(1)];
    let ends: Vec<_> = grown.partitions.iter().map(|partition| partition.next_offset).collect();
    assert_eq!((ends, grown.changed), (vec![10, 0, 4], state.applied));
    assert_eq!(grown.partitions[2].epochs, imbl::vector![(3, 0)]);
    assert_eq!(apply(&mut state, &[add_partitions(2, 3)]), Err(CommandRefusal::UnknownTopic));
}

#[test]
fn a_log_starts_later_and_never_earlier_nor_beyond_its_end() {
    let mut state = shipped();
    apply(&mut state, &[add_partitions(1, 3), append(1, 1, 0, 4)]).unwrap();
    let beyond = |offset, next_offset| Err(CommandRefusal::BeyondEnd { offset, next_offset });
    for (kept, log_starts) in [
        (&[(0, Some(0)), (1, Some(3)), (2, None)][..], vec![Ok(0), Ok(3), Ok(0)]),
        (&[(0, Some(11)), (1, Some(-2)), (2, Some(1))], vec![beyond(11, 10), beyond(-2, 4), beyond(1, 0)]),
        (
            &[(3, Some(0)), (-1, None), (1, Some(2))],
            vec![Err(CommandRefusal::UnknownPartition), Err(CommandRefusal::UnknownPartition), Ok(3)],
        ),
        (&[(0, Some(5)), (0, Some(4)), (0, None)], vec![Ok(5), Ok(5), Ok(10)]),
    ] {
        state.begin_frame(state.applied + 1);
        assert_eq!(state.delete_records(&delete_records(1, kept)), Ok(log_starts), "{kept:?}");
    }
    let unknown = Command::DeleteRecords(delete_records(2, &[(0, None)]));
    assert_eq!(apply(&mut state, &[unknown]), Err(CommandRefusal::UnknownTopic));
    apply(&mut state, &[append(1, 0, 10, 2), Command::DeleteRecords(delete_records(1, &[(0, None)]))]).unwrap();
    let trimmed = &state.topics[&topic(1)];
    assert_eq!((trimmed.partitions[0].log_start, trimmed.changed), (12, state.applied), "the end as of the command");
    check_invariants(&state);
}

#[test]
fn leader_epochs_begin_no_earlier_than_the_log() {
    let mut state = shipped();
    state.begin_incarnation(Incarnation(2));
    apply(&mut state, &[append(1, 0, 10, 5)]).unwrap();
    state.begin_incarnation(Incarnation(4));
    for (offset, epochs) in [
        (Some(3), imbl::vector![(1, 3), (2, 10), (4, 15)]),
        (Some(10), imbl::vector![(2, 10), (4, 15)]),
        (Some(12), imbl::vector![(2, 12), (4, 15)]),
        (None, imbl::vector![(4, 15)]),
    ] {
        apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, offset)]))]).unwrap();
        assert_eq!(state.topics[&topic(1)].partitions[0].epochs, epochs, "{offset:?}");
    }
}

/// One partition with records 0 to 9 and 10 to 19 in a segment each.
fn shipped_twice() -> LaneState {
    let mut state = shipped();
    apply(&mut state, &[append(1, 0, 10, 10)]).unwrap();
    apply(&mut state, &[Command::RegisterSegment(segment(3, 4, &[(1, 0, 10, 19)]))]).unwrap();
    state
}

/// One archive over records 0 to 9 and 10 to 19.
fn result_of_both() -> RegisterResult {
    let mut both = result("r", "archive", &key(1, 2), 0, 9);
    both.archives[0].runs.extend(result("r", "", &key(3, 4), 10, 19).archives.remove(0).runs);
    both
}

#[test]
fn runs_below_the_logs_start_leave_and_their_archive_with_the_last_of_them() {
    let mut state = shipped_twice();
    apply(&mut state, &[Command::RegisterResult(result_of_both())]).unwrap();
    for (offset, runs, archived) in [(9, 2, true), (10, 1, true), (19, 1, true), (20, 0, false)] {
        apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(offset))]))]).unwrap();
        let trimmed = &state.topics[&topic(1)];
        assert_eq!((trimmed.partitions[0].runs.len(), trimmed.archives.contains_key("archive")), (runs, archived));
        assert_eq!(state.tombstones.contains_key("archive"), !archived, "{offset}");
        check_invariants(&state);
    }
    let tombstone = state.tombstones["archive"];
    assert_eq!((tombstone.index, tombstone.at), (state.applied, 12 * HOUR_MS));
}

#[test]
fn what_is_deleted_does_not_wait_to_be_indexed_and_an_archive_counts_for_what_is_left() {
    let mut state = shipped_twice();
    assert_eq!(state.pending.iter().count(), 2);
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(15))]))]).unwrap();
    assert_eq!(state.pending.iter().collect::<Vec<_>>(), [&(topic(1), 0, 10)]);
    apply(&mut state, &[Command::RegisterResult(result("r1", "late", &key(1, 2), 0, 9))]).unwrap();
    assert!(state.tombstones.contains_key("late"), "none of its records is left");
    apply(&mut state, &[Command::RegisterResult(result_of_both())]).unwrap();
    assert_eq!((state.pending.iter().next(), state.topics[&topic(1)].partitions[0].archived_to()), (None, 20));
    check_invariants(&state);
}

#[test]
fn records_that_are_deleted_before_they_are_shipped_are_in_no_run() {
    let mut state = shipped();
    apply(&mut state, &[append(1, 0, 10, 5), append(1, 0, 15, 5)]).unwrap();
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(15))]))]).unwrap();
    apply(&mut state, &[Command::RegisterSegment(segment(3, 3, &[(1, 0, 10, 14)]))]).unwrap();
    let partition = &state.topics[&topic(1)].partitions[0];
    assert_eq!((partition.shipped_to, partition.runs.len()), (15, 0));
    assert_eq!(partition.shipped_by(3), 15);
    let mut another = state.clone();
    apply(&mut state, &[Command::RegisterSegment(segment(4, 5, &[(1, 0, 15, 19)]))]).unwrap();
    assert_eq!(state.topics[&topic(1)].partitions[0].runs.len(), 1);
    apply(&mut another, &[Command::DeleteRecords(delete_records(1, &[(0, None)]))]).unwrap();
    apply(&mut another, &[Command::RegisterSegment(segment(4, 5, &[(1, 0, 15, 19)]))]).unwrap();
    assert_eq!((another.topics[&topic(1)].partitions[0].shipped_to, another.pending.iter().next()), (20, None));
    check_invariants(&another);
}

/// The command that closes what is open of a topic up to a log index.
fn close(state: &LaneState, number: u128, last: LogIndex) -> ClosePage {
    let topic = &state.topics[&topic(number)];
    let origin = Origin { cluster: CLUSTER, incarnation: state.incarnation, lane: LANE };
    let runs = open_runs(topic, &state.segments, last);
    let builder = PageBuilder { origin, topic: topic.id, written_at: 5 };
    ClosePage { topic: topic.id, page: builder.leaf(format!("page-{last}"), &runs, last).unwrap().entry }
}

/// The command that puts pages at a topic's top below one that is named `object`.
fn fold(topic: TopicId, object: String, pages: &[Arc<PageEntry>]) -> ReplacePages {
    let origin = Origin { cluster: CLUSTER, incarnation: Incarnation(1), lane: LANE };
    let page = PageBuilder { origin, topic, written_at: 6 }.inner(object, pages).unwrap();
    let old = pages.iter().map(|page| page.object.clone()).collect();
    ReplacePages { topic, old, new: vec![page.entry], gone: vec![], deleted: vec![], at: 12 * HOUR_MS }
}

/// The command that puts a page, of which all is compacted, in the place of all pages of a topic.
fn compact(state: &LaneState, number: u128) -> ReplacePages {
    let pages = &state.topics[&topic(number)].pages;
    let old: Vec<_> = pages.iter().map(|page| page.object.clone()).collect();
    let bounds = PageBounds::of_pages(pages.iter().map(Arc::as_ref)).unwrap();
    let bounds = PageBounds { level: 1, oldest_segment: None, ..bounds };
    let new = PageEntry { object: format!("compacted-{}", state.applied), bounds, ..PageEntry::default() };
    let gone = old.clone();
    ReplacePages { topic: topic(number), old, new: vec![new], gone, deleted: vec![], at: 12 * HOUR_MS }
}

/// The command that lists so many of the oldest segments that are in no list.
fn list(state: &LaneState, segments: usize) -> ListSegments {
    let listed: Vec<_> = state.segments.unlisted().take(segments).map(|(_, segment)| segment).collect();
    let (first, last) = (listed[0].first, listed[listed.len() - 1].last);
    let (object, segments) = (format!("list-{last}"), listed.len() as u32);
    ListSegments {
        list: SegmentListEntry { object, size: 106, crc: 3, first, last, segments, bytes: 4, written_at: 5 },
    }
}

/// Records 0 to 9 in segment 1 to 2, under an archive; 10 to 19 in segment 3 to 4, pending.
fn half_archived() -> LaneState {
    let mut state = shipped_twice();
    apply(&mut state, &[Command::RegisterResult(result("r", "archive", &key(1, 2), 0, 9))]).unwrap();
    state
}

#[test]
fn what_is_closed_leaves_the_state_for_its_page() {
    let mut state = half_archived();
    let close = close(&state, 1, 2);
    apply(&mut state, &[Command::ClosePage(close.clone())]).unwrap();
    let closed = &state.topics[&topic(1)];
    let partition = &closed.partitions[0];
    assert_eq!((closed.archives.len(), closed.pages.len(), closed.closed_index()), (0, 1, 2));
    assert_eq!((partition.runs.len(), partition.closed.to, partition.archived_to()), (1, 10, 10));
    assert_eq!([1, 2, 4].map(|up_to| partition.shipped_by(up_to)), [10, 10, 20]);
    assert_eq!(closed.changed, state.applied, "readers are told");
    let again = apply(&mut state.clone(), &[Command::ClosePage(close)]);
    assert_eq!(again, Err(CommandRefusal::PageOutOfPlace));

    let repeated = result("r", "archive", &key(1, 2), 0, 9);
    apply(&mut state, &[Command::RegisterResult(repeated)]).unwrap();
    assert!(state.tombstones.is_empty(), "the page names this archive");
    let late = result("late", "archive-2", &key(1, 2), 0, 9);
    apply(&mut state, &[Command::RegisterResult(late)]).unwrap();
    assert!(state.tombstones.contains_key("archive-2"), "nothing is indexed any more in what is closed");
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 })]).unwrap();
    assert!(state.tombstones.contains_key("page-2"));
}

#[test]
fn what_is_closed_before_it_has_an_archive_waits_in_its_page() {
    let mut state = shipped_twice();
    let before = state.waiting(&state.topics[&topic(1)]);
    let close = close(&state, 1, 2);
    apply(&mut state, &[Command::ClosePage(close)]).unwrap();
    assert_eq!(state.pending.iter().collect::<Vec<_>>(), [&(topic(1), 0, 10)]);
    assert_eq!((state.waiting(&state.topics[&topic(1)]), before.runs), (before, 2));
    assert_eq!(state.topics[&topic(1)].partitions[0].archived_to(), 0);
    check_invariants(&state);
    apply(&mut state, &[Command::RegisterResult(result_of_both())]).unwrap();
    assert!(state.tombstones.contains_key("archive"), "it lies across");
    check_invariants(&state);
    let config = ConfigChange::new(false, [("search.enabled".to_owned(), Some("false".to_owned()))]).unwrap();
    apply(&mut state, &[Command::AlterTopicConfig(AlterTopicConfig { topic: topic(1), change: config })]).unwrap();
    assert_eq!(
        state.waiting(&state.topics[&topic(1)]),
        WaitingRuns::default(),
        "what is not searched waits for nothing"
    );
}

#[test]
fn a_page_is_refused_unless_it_is_what_is_open() {
    let state = half_archived();
    let fitting = close(&state, 1, 2);
    let with = |change: fn(&mut PageEntry)| {
        let mut close = fitting.clone();
        change(&mut close.page);
        close
    };
    let mut given_up = shipped_twice();
    let run = ScannedRun { segment: key(1, 2), partition: 0, first: 0, reason: "sent three times".into() };
    apply(&mut given_up, &[Command::GiveUp(GiveUp { topic: topic(1), runs: vec![run] })]).unwrap();
    let before_its_archive = close(&given_up, 1, 2);
    let mut across = shipped_twice();
    apply(&mut across, &[Command::RegisterResult(result_of_both())]).unwrap();
    let across_an_archive = close(&across, 1, 2);
    for (why, state, close) in [
        ("given up since", &given_up, close(&shipped_twice(), 1, 2)),
        ("another number of runs that wait", &state, with(|page| page.bounds.waiting.runs = 1)),
        ("another topic", &state, ClosePage { topic: topic(9), ..fitting.clone() }),
        ("fewer offsets", &state, with(|page| page.bounds.partitions[0].offsets.last = 8)),
        (
            "more partitions",
            &state,
            with(|page| page.bounds.partitions.push(PartitionBounds { partition: 1, ..page.bounds.partitions[0] })),
        ),
        ("no partition", &state, with(|page| page.bounds.partitions.clear())),
        ("another number of archives", &state, with(|page| page.bounds.archives = 0)),
        ("an archive came since", &state, before_its_archive.clone()),
        ("an archive lies across", &across, across_an_archive),
        ("before the first segment's end", &state, with(|page| page.bounds.last = 1)),
        ("beyond what is shipped", &across, close(&across, 1, 5)),
    ] {
        let mut copy = state.clone();
        let refused = apply(&mut copy, &[Command::ClosePage(close)]).unwrap_err();
        assert!(matches!(refused, CommandRefusal::PageOutOfPlace | CommandRefusal::UnknownTopic), "{why}");
        assert_eq!(copy.topics, state.topics, "{why}");
    }
    apply(&mut given_up, &[Command::ClosePage(before_its_archive)]).unwrap();
    assert_eq!(given_up.topics[&topic(1)].partitions[0].archived_to(), 0, "it is scanned for good");
    let both = close(&across, 1, 4);
    apply(&mut across, &[Command::ClosePage(both)]).unwrap();
    assert!(across.topics[&topic(1)].archives.is_empty());
}

#[test]
fn a_page_goes_with_the_last_of_its_records() {
    let mut state = half_archived();
    let close = close(&state, 1, 2);
    apply(&mut state, &[Command::ClosePage(close)]).unwrap();
    let delete = |offset| Command::DeleteRecords(delete_records(1, &[(0, Some(offset))]));
    apply(&mut state, &[delete(9)]).unwrap();
    assert_eq!((state.topics[&topic(1)].pages.len(), state.tombstones.len()), (1, 0));
    apply(&mut state, &[delete(10)]).unwrap();
    assert_eq!((state.topics[&topic(1)].pages.len(), state.tombstones.contains_key("page-2")), (0, true));
    assert_eq!(state.topics[&topic(1)].partitions[0].runs.len(), 1);
}

/// Records 0 to 9 and 10 to 19 in a page each; what lies in the second is scanned.
fn closed_twice() -> LaneState {
    let mut state = half_archived();
    let run = ScannedRun { segment: key(3, 4), partition: 0, first: 10, reason: "sent three times".into() };
    apply(&mut state, &[Command::GiveUp(GiveUp { topic: topic(1), runs: vec![run] })]).unwrap();
    for last in [2, 4] {
        let close = close(&state, 1, last);
        apply(&mut state, &[Command::ClosePage(close)]).unwrap();
    }
    state
}

fn pages_of(state: &LaneState) -> Vec<Arc<PageEntry>> {
    state.topics[&topic(1)].pages.iter().cloned().collect()
}

#[test]
fn pages_are_replaced_and_what_is_gone_takes_nothing_along() {
    let mut state = closed_twice();
    let fold = fold(topic(1), "above".into(), &pages_of(&state));
    apply(&mut state, &[Command::ReplacePages(fold.clone())]).unwrap();
    let folded = &state.topics[&topic(1)];
    assert_eq!((folded.pages.len(), folded.pages[0].height, folded.closed_index()), (1, 1, 4));
    assert_eq!((folded.changed, folded.partitions[0].archived_to()), (state.applied, 10), "readers are told");
    assert!(state.tombstones.is_empty());
    let again = apply(&mut state.clone(), &[Command::ReplacePages(fold)]);
    assert_eq!(again, Err(CommandRefusal::PagesNotReplaceable));

    let mut archived = PageEntry::clone(&pages_of(&state)[0]);
    archived.object = "archived".into();
    archived.bounds.partitions[0].scanned_from = None;
    let gone = ["above", "page-4"].map(str::to_owned).to_vec();
    let replace = ReplacePages {
        topic: topic(1),
        old: vec!["above".into()],
        new: vec![archived],
        gone,
        deleted: vec!["page-0".into()],
        at: 7,
    };
    apply(&mut state, &[Command::ReplacePages(replace)]).unwrap();
    assert_eq!(state.topics[&topic(1)].partitions[0].archived_to(), 20, "late archives");
    let tombstones: Vec<_> = state.tombstones.iter().map(|(key, dead)| (&**key, dead.at, dead.with_all)).collect();
    assert_eq!(tombstones, [("above", 7, false), ("page-0", 7, true), ("page-4", 7, false)]);
    check_invariants(&state);
    apply(&mut state, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 8 })]).unwrap();
    assert!(state.tombstones["archived"].with_all);
}

#[test]
fn pages_are_replaced_only_as_they_were_and_by_what_holds_the_same() {
    let state = closed_twice();
    let fitting = fold(topic(1), "above".into(), &pages_of(&state));
    let with = |change: fn(&mut ReplacePages)| {
        let mut replace = fitting.clone();
        change(&mut replace);
        replace
    };
    let dead = |object: &str| {
        let mut state = state.clone();
        let gone = RegisterResult { at: 17 * HOUR_MS, ..result("late", object, &key(1, 2), 0, 9) };
        apply(&mut state, &[Command::RegisterResult(gone)]).unwrap();
        state
    };
    for (why, state, replace) in [
        ("another topic", &state, with(|replace| replace.topic = topic(9))),
        ("no old ones", &state, with(|replace| replace.old.clear())),
        ("another old one", &state, with(|replace| replace.old[1] = "page-5".into())),
        ("out of order", &state, with(|replace| replace.old.reverse())),
        ("fewer old ones", &state, with(|replace| drop(replace.old.pop()))),
        ("more old ones", &state, with(|replace| replace.old.push("page-5".into()))),
        ("no new ones", &state, with(|replace| replace.new.clear())),
        ("twice the same", &state, with(|replace| replace.new.push(replace.new[0].clone()))),
        ("fewer offsets", &state, with(|replace| replace.new[0].bounds.partitions[0].offsets.last = 18)),
        ("a later start", &state, with(|replace| replace.new[0].bounds.partitions[0].offsets.first = 1)),
        ("no partition", &state, with(|replace| replace.new[0].bounds.partitions.clear())),
        (
            "more partitions",
            &state,
            with(|replace| {
                let bounds = &mut replace.new[0].bounds.partitions;
                bounds.push(PartitionBounds { partition: 1, ..bounds[0] });
            }),
        ),
        ("a later end", &state, with(|replace| replace.new[0].bounds.last = 5)),
        (
            "not behind the page before",
            &state,
            with(|replace| {
                replace.old.remove(0);
                replace.new[0].bounds.partitions[0].offsets.first = 10;
                replace.new[0].bounds.last = 2;
            }),
        ),
        ("gone at once", &state, with(|replace| replace.gone.push("above".into()))),
        ("deleted at once", &state, with(|replace| replace.deleted.push("above".into()))),
        ("dead already", &dead("above"), fitting.clone()),
    ] {
        let mut copy = state.clone();
        let refused = apply(&mut copy, &[Command::ReplacePages(replace)]).unwrap_err();
        assert!(matches!(refused, CommandRefusal::PagesNotReplaceable | CommandRefusal::UnknownTopic), "{why}");
        assert_eq!((&copy.topics, &copy.tombstones), (&state.topics, &state.tombstones), "{why}");
    }
    let mut state = state;
    let gone = with(|replace| {
        replace.old.pop();
        replace.new[0].bounds.partitions[0].offsets.last = 9;
        replace.new[0].bounds.last = 2;
        replace.gone.push("page-4".into());
    });
    let refused = apply(&mut state.clone(), &[Command::ReplacePages(gone)]);
    assert_eq!(refused, Err(CommandRefusal::PagesNotReplaceable), "it lives on beside the new ones");
    apply(&mut state, &[Command::ReplacePages(fitting)]).unwrap();
}

#[test]
fn records_that_are_deleted_may_be_left_out_of_new_pages() {
    for (kept, first, accepted) in
        [(12, Some(10), true), (12, Some(11), true), (12, Some(12), true), (12, Some(13), false), (12, None, false)]
    {
        let mut state = closed_twice();
        apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(kept))]))]).unwrap();
        let mut page = PageEntry { object: "new".into(), ..PageEntry::clone(&pages_of(&state)[0]) };
        match first {
            Some(first) => page.bounds.partitions[0].offsets.first = first,
            None => page.bounds.partitions.clear(),
        }
        let (old, gone) = (vec!["page-4".into()], vec!["page-4".into()]);
        let replace = ReplacePages { topic: topic(1), old, new: vec![page], gone, deleted: vec![], at: 7 };
        let outcome = apply(&mut state, &[Command::ReplacePages(replace)]);
        assert_eq!(outcome.is_ok(), accepted, "{first:?}");
        check_invariants(&state);
    }
}

#[test]
fn what_is_deleted_may_be_left_out_in_the_middle_and_at_the_end() {
    let mut state = LaneState::new(Incarnation(1));
    apply(&mut state, &[create(1, "a", 2)]).unwrap();
    apply(&mut state, &[append(1, 0, 0, 30), append(1, 1, 0, 30)]).unwrap();
    apply(&mut state, &[Command::RegisterSegment(segment(1, 2, &[(1, 0, 0, 19), (1, 1, 0, 9)]))]).unwrap();
    let leaf = |last, runs: &[(PartitionId, Offset, Offset)]| {
        let bounds = |&(partition, first, last)| PartitionBounds {
            partition,
            offsets: OffsetSpan { first, last },
            times: TimeSpan::at(1),
            bytes: 1,
            scanned_from: None,
        };
        let partitions = runs.iter().map(bounds).collect();
        let bounds = PageBounds { last, bytes: 1, partitions, ..PageBounds::default() };
        Arc::new(PageEntry { object: format!("page-{last}"), bounds, ..PageEntry::default() })
    };
    let topic_state = Arc::make_mut(state.topics.get_mut(&topic(1)).unwrap());
    let leaves = [leaf(1, &[(0, 0, 4), (1, 0, 9)]), leaf(2, &[(0, 5, 9)]), leaf(3, &[(0, 10, 19)])];
    topic_state.pages.extend(leaves.iter().cloned());
    for (number, closed_to) in [(0, 20), (1, 10)] {
        let partition = topic_state.partition_mut(number).unwrap();
        partition.closed.to = closed_to;
        partition.runs.clear();
    }
    state.pending = PendingRuns::of(state.topics.values().map(Arc::as_ref));
    state.segments.count_open_runs(state.topics.values().map(Arc::as_ref)).unwrap();
    let names = |state: &LaneState| pages_of(state).iter().map(|page| page.object.clone()).collect::<Vec<_>>();
    // Partition 1 keeps the first page, and what lies behind it goes.
    let mut flat = state.clone();
    apply(&mut flat, &[Command::DeleteRecords(delete_records(1, &[(0, Some(10))]))]).unwrap();
    assert_eq!((names(&flat), flat.tombstones["page-2"].with_all), (vec!["page-1".into(), "page-3".into()], true));
    check_invariants(&flat);
    apply(&mut flat, &[Command::DeleteRecords(delete_records(1, &[(0, Some(20))]))]).unwrap();
    assert_eq!(names(&flat), ["page-1"]);
    check_invariants(&flat);
    // The same below another page, which is written anew.
    let above = fold(topic(1), "above".into(), &leaves);
    apply(&mut state, &[Command::ReplacePages(above)]).unwrap();
    let trim = |kept: &[Arc<PageEntry>], deleted: &[&str]| {
        let trimmed = fold(topic(1), "trimmed".into(), kept);
        let (old, deleted) = (vec!["above".to_owned()], deleted.iter().map(ToString::to_string).collect());
        Command::ReplacePages(ReplacePages { gone: old.clone(), old, deleted, ..trimmed })
    };
    for (kept, deleted, log_start) in
        [(vec![&leaves[0], &leaves[2]], &["page-2"][..], 10), (vec![&leaves[0]], &["page-2", "page-3"], 20)]
    {
        let kept: Vec<_> = kept.into_iter().cloned().collect();
        let mut state = state.clone();
        let before = delete_records(1, &[(0, Some(log_start - 1))]);
        apply(&mut state, &[Command::DeleteRecords(before)]).unwrap();
        let early = apply(&mut state.clone(), &[trim(&kept, deleted)]);
        assert_eq!(early.is_err(), kept.len() == 1, "the bounds of all show what is left out at the end");
        apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(log_start))]))]).unwrap();
        apply(&mut state, &[trim(&kept, deleted)]).unwrap();
        assert_eq!(names(&state), ["trimmed"]);
        let dead = state.tombstones.iter().map(|(object, tombstone)| (object.as_str(), tombstone.with_all));
        let expected = [("above", false)].into_iter().chain(deleted.iter().map(|object| (*object, true)));
        assert_eq!(dead.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        check_invariants(&state);
    }
}

#[test]
fn runs_that_were_deleted_hinder_no_page() {
    let mut state = shipped_twice();
    apply(&mut state, &[Command::RegisterResult(result_of_both())]).unwrap();
    apply(&mut state, &[Command::DeleteRecords(delete_records(1, &[(0, Some(10))]))]).unwrap();
    let close = close(&state, 1, 4);
    assert_eq!(close.page.bounds.archives, 1);
    apply(&mut state, &[Command::ClosePage(close)]).unwrap();
}

#[test]
fn only_a_topic_that_is_searched_waits_to_be_indexed() {
    let mut state = shipped();
    for (value, waiting) in [("false", 0), ("true", 1)] {
        apply(&mut state, &[alter(1, "search.enabled", Some(value))]).unwrap();
        assert_eq!(state.pending.iter().count(), waiting, "{value}");
    }
}

#[test]
fn settings_that_have_no_effect_are_refused() {
    let config = |name: &str, value: &str| TopicConfig::new([(name.to_owned(), value.to_owned())]);
    for (name, value) in [("cleanup.policy", "compact"), ("retention.ms", "-2"), ("max.message.bytes", "-1")] {
        assert!(matches!(config(name, value), Err(ConfigError::Value { .. })), "{name}={value}");
    }
    assert!(matches!(config("min.insync.replica", "1"), Err(ConfigError::Unsupported { .. })));
    for (name, value) in [("cleanup.policy", "delete"), ("retention.ms", "1000"), ("segment.bytes", "5")] {
        assert!(config(name, value).is_ok(), "{name}={value}");
    }
}

fn every_command() -> Vec<Command> {
    let unreadable = ScannedRun { segment: "s".into(), partition: 1, first: 2, reason: "because".into() };
    let result = RegisterResult { unreadable: vec![unreadable.clone()], ..result("r", "a", "s", 0, 9) };
    let producer = Some(ProducerStamp { id: 7, epoch: 8, base_sequence: i32::MAX, at: 9 });
    let place =
        Append { topic: topic(1), partition: 2, base_offset: 3, last_offset: 6, position: 0, length: 100, producer };
    vec![
        append(1, 2, 3, 4),
        Command::Append(place),
        create(1, "name", 3),
        Command::DeleteTopic(DeleteTopic { id: topic(1), at: 5 }),
        Command::RegisterSegment(segment(1, 2, &[(1, 0, 0, 9)])),
        Command::RegisterResult(result),
        Command::GiveUp(GiveUp { topic: topic(1), runs: vec![unreadable] }),
        Command::ForgetResults(ForgetResults { results: vec!["r".into()] }),
        Command::ForgetTombstones(ForgetTombstones { objects: vec!["a".into()] }),
        save("g", 3, 2),
        Command::CommitOffsets(commit("g", 1, 0, 7, 8)),
        forget("g", 1, Some(8)),
        Command::DeleteGroup(DeleteGroup { group: "g".into() }),
        Command::NewProducerId(NewProducerId { number: 6 }),
        forget_producer(1, 9),
        alter(1, "search.positions", None),
        add_partitions(1, 5),
        Command::DeleteRecords(delete_records(1, &[(0, Some(7)), (2, None)])),
        Command::ClosePage(close(&half_archived(), 1, 2)),
        Command::ReplacePages(ReplacePages {
            gone: vec!["page-1".into()],
            deleted: vec!["page-2".into()],
            ..fold(topic(1), "above".into(), &pages_of(&closed_twice()))
        }),
        Command::ListSegments(list(&half_archived(), 2)),
        Command::DropSegments(DropSegments { below: 5, at: 6 }),
        Command::ForgetSegments(ForgetSegments { below: 5, at: 6 }),
    ]
}

#[test]
fn golden_commands() {
    let bytes: Vec<u8> = every_command().iter().flat_map(Command::encoded).collect();
    chronik_format::golden::check("commands-v0.bin", &bytes);
    assert_eq!(Command::decode_all(&Bytes::from(bytes)).unwrap(), every_command());
}

#[test]
fn golden_state() {
    let mut state = shipped_twice();
    apply(&mut state, &[Command::RegisterResult(result("r1", "archive-1", &key(1, 2), 0, 9))]).unwrap();
    apply(&mut state, &[Command::RegisterResult(result("r2", "archive-2", &key(3, 4), 10, 19))]).unwrap();
    apply(&mut state, &[Command::RegisterResult(result("r3", "archive-3", &key(3, 4), 10, 19))]).unwrap();
    let close = close(&state, 1, 2);
    apply(&mut state, &[Command::ClosePage(close)]).unwrap();
    let listed = list(&state, 2);
    apply(&mut state, &[Command::ListSegments(listed)]).unwrap();
    let compacted = compact(&state, 1);
    apply(&mut state, &[Command::ReplacePages(compacted)]).unwrap();
    apply(&mut state, &[Command::DropSegments(DropSegments { below: 3, at: 6 })]).unwrap();
    apply(&mut state, &[save("g", 1, 1), Command::CommitOffsets(commit("g", 1, 0, 7, 8))]).unwrap();
    apply(&mut state, &[numbered(1, 20, 3, 0), Command::NewProducerId(NewProducerId { number: 6 })]).unwrap();
    let bytes = checkpoint::encode(&state, CLUSTER, LANE);
    chronik_format::golden::check("lane-state-v0.ckpt", &bytes);
    assert_eq!(checkpoint::decode("golden", bytes, CLUSTER, LANE).unwrap(), state);
}

#[test]
fn offsets_are_committed_for_living_topics_and_go_with_their_group() {
    let mut state = shipped();
    apply(&mut state, &[Command::CommitOffsets(commit("g", 2, 0, 7, 1))]).unwrap();
    assert!(state.groups.is_empty(), "no such topic");
    apply(&mut state, &[Command::CommitOffsets(commit("g", 1, 0, 7, 1))]).unwrap();
    apply(&mut state, &[Command::CommitOffsets(commit("g", 1, 0, 5, 2))]).unwrap();
    assert_eq!(committed(&state, "g", 1), Some(5), "backwards, too");
    apply(&mut state, &[save("g", 1, 1), forget("g", 1, Some(1))]).unwrap();
    assert_eq!(committed(&state, "g", 1), Some(5), "it was committed anew since");
    apply(&mut state, &[forget("g", 1, Some(2))]).unwrap();
    assert!(state.groups["g"].offsets.is_empty() && state.groups["g"].generation.id == 1, "it has members");
    apply(&mut state, &[save("g", 2, 0), Command::CommitOffsets(commit("g", 1, 0, 5, 3)), forget("g", 1, None)])
        .unwrap();
    assert!(state.groups["g"].offsets.is_empty(), "it stays until the next look for what is out of use");
    let look = Command::ForgetOffsets(ForgetOffsets { group: "g".into(), offsets: Vec::new() });
    apply(&mut state, &[look]).unwrap();
    assert!(state.groups.is_empty());
    assert_eq!(apply(&mut state, &[forget("g", 1, None)]), Err(CommandRefusal::UnknownGroup));
    let delete = || Command::DeleteGroup(DeleteGroup { group: "g".into() });
    assert_eq!(apply(&mut state, &[delete()]), Err(CommandRefusal::UnknownGroup));
    apply(&mut state, &[save("g", 1, 1), delete()]).unwrap();
    assert!(state.groups.is_empty());
}

#[test]
fn the_same_offset_is_written_again_only_after_a_while() {
    let mut state = shipped();
    apply(&mut state, &[Command::CommitOffsets(commit("g", 1, 0, 7, 1000))]).unwrap();
    for (commit, stands) in [
        (commit("g", 1, 0, 7, 1000 + HOUR_MS - 1), true),
        (commit("g", 1, 0, 7, 1000 + HOUR_MS), false),
        (commit("g", 1, 0, 7, 999), false),
        (commit("g", 1, 0, 8, 1001), false),
        (commit("g", 1, 1, 7, 1001), false),
        (commit("h", 1, 0, 7, 1001), false),
    ] {
        assert_eq!(state.is_committed(&commit, Duration::from_millis(HOUR_MS as u64)), stands, "{commit:?}");
    }
}

#[test]
fn there_are_no_more_groups_than_there_may_be() {
    let mut state = shipped();
    let commits = (0..100_000).map(|number| Command::CommitOffsets(commit(&number.to_string(), 1, 0, 7, 1)));
    apply(&mut state, &commits.collect::<Vec<_>>()).unwrap();
    let one_more = [Command::CommitOffsets(commit("g", 1, 0, 7, 1)), save("g", 1, 1)];
    for command in one_more {
        assert_eq!(apply(&mut state, &[command]), Err(CommandRefusal::TooManyGroups));
    }
    apply(&mut state, &[Command::CommitOffsets(commit("7", 1, 0, 8, 1)), forget("8", 1, Some(1))]).unwrap();
    apply(&mut state, &[save("g", 1, 1)]).unwrap();
}

#[test]
fn a_recovery_that_lost_records_moves_committed_offsets_back_to_the_ends() {
    let mut state = shipped();
    let commits = [commit("g", 1, 0, 10, 1), commit("h", 1, 0, 11, 1), commit("i", 1, 0, 3, 1)];
    apply(&mut state, &commits.map(Command::CommitOffsets)).unwrap();
    apply(&mut state, &[save("g", 7, 1)]).unwrap();
    state.begin_incarnation(Incarnation(2));
    assert_eq!(
        [7 + (1 << 16), 0],
        ["g", "h"].map(|group| state.groups[group].generation.id),
        "no number is given twice"
    );
    assert_eq!(["g", "h", "i"].map(|group| committed(&state, group, 1)), [Some(10), Some(10), Some(3)]);
}

#[test]
fn a_producer_begins_at_0_where_it_can_not_have_written_before() {
    let out_of_order = |sequence| CommandRefusal::Sequence(SequenceError::OutOfOrder { sequence, expected: 0 });
    let give_out = |number| Command::NewProducerId(NewProducerId { number });
    let late = |state: &LaneState, id: i64| {
        let Command::Append(append) = append(1, 0, 20, 1) else { unreachable!() };
        let producer = Some(ProducerStamp { id, epoch: 0, base_sequence: 3, at: 9 });
        apply(&mut state.clone(), &[Command::Append(Append { producer, ..append })])
    };
    let mut state = shipped();
    apply(&mut state, &[give_out(0), give_out(1)]).unwrap();
    let [first, second, third] = [0, 1, 2].map(|number| producer_id(Incarnation(1), number));
    for id in [first, second, third] {
        assert_eq!(late(&state, id), Err(out_of_order(3)), "its first batch may have been refused for now");
    }
    let mut again = state.clone();
    apply(&mut again, &[Command::DeleteTopic(DeleteTopic { id: topic(1), at: 0 }), create(1, "a", 1)]).unwrap();
    assert_eq!([first, second, third].map(|id| late(&again, id)), [Ok(()), Ok(()), Err(out_of_order(3))]);
    state.begin_incarnation(Incarnation(2));
    assert_eq!([first, third].map(|id| late(&state, id)), [Ok(()), Ok(())], "what it had written may be lost");
    assert_eq!(late(&state, producer_id(Incarnation(2), 0)), Err(out_of_order(3)));
}

#[test]
fn unknown_or_damaged_commands_are_errors() {
    let mut bytes = append(1, 0, 0, 1).encoded();
    let known = bytes.len();
    bytes.extend([99, 0, 0, 0]);
    assert!(matches!(
        Command::decode_all(&Bytes::from(bytes)),
        Err(CommandError::Unknown { kind: 99, version: 0, position }) if position == known
    ));
    let cut = Bytes::from(create(1, "name", 1).encoded());
    for length in 1..cut.len() {
        assert!(Command::decode_all(&cut.slice(..length)).is_err(), "cut to {length}");
    }
}

#[test]
fn a_checkpoint_of_another_cluster_is_refused() {
    let bytes = checkpoint::encode(&shipped(), CLUSTER, LANE);
    assert!(checkpoint::decode("x", bytes.clone(), Uuid::from_u128(8), LANE).is_err());
    assert!(checkpoint::decode("x", bytes, CLUSTER, LaneId(1)).is_err());
}

/// Commands that hit few topics and offsets, so that accepting and refusing both happen.
fn any_command() -> impl Strategy<Value = Command> {
    let number = 1..4u128;
    prop_oneof![
        8 => (number.clone(), 0..3i32, 0..12i64, 1..5i64).prop_map(|(t, p, base, n)| append(t, p, base, n)),
        2 => (number.clone(), 1..3i32).prop_map(|(t, partitions)| create(t, &format!("topic-{t}"), partitions)),
        1 => number.clone().prop_map(|t| Command::DeleteTopic(DeleteTopic { id: topic(t), at: 1 })),
        4 => (number, 0..2i32, 0..20u64, 0..8u64, 0..12i64, 0..6i64).prop_map(|(t, p, first, more, from, n)| {
            Command::RegisterSegment(segment(first, first + more, &[(t, p, from, from + n)]))
        }),
        1 => (0..8i64, 0..6i64).prop_map(|(first, n)| {
            Command::RegisterResult(result("r", "archive", &key(1, 2), first, first + n))
        }),
        2 => ("[ab]", 1..4u128, 0..2i32, 0..9i64).prop_map(|(group, t, p, offset)| {
            Command::CommitOffsets(commit(&group, t, p, offset, offset))
        }),
        1 => ("[ab]", 0..9i32, 0..3usize).prop_map(|(group, id, members)| save(&group, id, members)),
        1 => ("[ab]", 1..4u128, prop::option::of(0..9i64)).prop_map(|(group, t, at)| forget(&group, t, at)),
        1 => "[ab]".prop_map(|group| Command::DeleteGroup(DeleteGroup { group })),
        3 => (1..4u128, 0..12i64, 1..3i64, 0..6i32).prop_map(|(t, base, n, sequence)| numbered(t, base, n, sequence)),
        1 => (1..4u128, 8..10i64).prop_map(|(t, last_at)| forget_producer(t, last_at)),
        1 => (0..9i64).prop_map(|number| Command::NewProducerId(NewProducerId { number })),
        2 => (1..4u128, prop::sample::select(vec!["search.enabled", "search.positions"]), any::<bool>())
            .prop_map(|(t, name, value)| alter(t, name, Some(&value.to_string()))),
        2 => (1..4u128, 0..4i32).prop_map(|(t, count)| add_partitions(t, count)),
        2 => (1..4u128, 0..3i32, prop::option::of(0..14i64)).prop_map(|(t, p, offset)| {
            Command::DeleteRecords(delete_records(t, &[(p, offset)]))
        }),
        2 => (1..4u128, 0..20u64, 0..12i64, 0..6i64, "(page-[1-9])?").prop_map(|(t, last, first, n, gone)| {
            let times = TimeSpan::at(1);
            let offsets = OffsetSpan { first, last: first + n };
            let partitions = vec![PartitionBounds { partition: 0, offsets, times, bytes: 1, scanned_from: None }];
            let bounds = PageBounds { last, bytes: 1, partitions, ..PageBounds::default() };
            let new = vec![PageEntry { object: format!("new-{first}"), bounds, ..PageEntry::default() }];
            let old = vec![format!("page-{last}")];
            Command::ReplacePages(ReplacePages { topic: topic(t), old, new, gone: vec![gone], deleted: vec![], at: 1 })
        }),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::state::command::fuzz_commands(&bytes);
        checkpoint::fuzz_state(&bytes);
        crate::ownership::claim::fuzz_documents(&bytes);
        crate::data_dir::fuzz_identity(&bytes);
        crate::data_dir::fuzz_writers(&bytes);
    }

    #[test]
    fn replaying_the_same_commands_gives_the_same_state(frames in prop::collection::vec(prop::collection::vec(any_command(), 1..4), 1..60), split in 0..60usize) {
        let mut state = LaneState::new(Incarnation(1));
        let mut restored = state.clone();
        for (at, commands) in frames.iter().enumerate() {
            let before = state.clone();
            let frozen = checkpoint::encode(&before, CLUSTER, LANE);
            let index = at as LogIndex + 1;
            let limits = PageLimits { page_runs: 2, open_runs: 0, waiting_pages: 2, fan_out: 2, ..PageLimits::default() };
            let closable = closable(&state, LogIndex::MAX, limits, 0);
            let closing = closable.iter().filter(|_| at % 3 == 0).map(|closable| {
                let number = closable.topic.0.as_u128();
                Command::ClosePage(close(&state, number, closable.last))
            });
            let foldable = foldable(&state, limits);
            let folding = foldable.iter().filter(|_| at % 3 == 1).map(|FoldablePages { topic, pages }| {
                Command::ReplacePages(fold(*topic, format!("above-{at}"), pages))
            });
            let listing = (at % 4 == 0 && state.shipped_index() > state.segments.listed_index())
                .then(|| Command::ListSegments(list(&state, 2)));
            let dropping = (at % 5 == 1).then(|| {
                Command::DropSegments(DropSegments { below: state.needed_from() + at as LogIndex / 5 % 2, at: 1 })
            });
            let forgetting = state.segments.dropped().filter(|_| at % 3 == 2).map(|dropped| {
                Command::ForgetSegments(ForgetSegments { below: dropped.below - at as LogIndex % 2, at: 1 })
            });
            let books = listing.into_iter().chain(dropping).chain(forgetting);
            let commands: Vec<Command> = commands.iter().cloned().chain(closing).chain(folding).chain(books).collect();
            let results = state.apply_frame(index, &commands);
            let encoded: Vec<u8> = commands.iter().flat_map(Command::encoded).collect();
            let decoded = Command::decode_all(&Bytes::from(encoded)).unwrap();
            prop_assert_eq!(restored.apply_frame(index, &decoded), results);
            if at == split {
                restored = checkpoint::decode("c", checkpoint::encode(&restored, CLUSTER, LANE), CLUSTER, LANE).unwrap();
            }
            prop_assert_eq!(&restored, &state);
            prop_assert_eq!(checkpoint::encode(&before, CLUSTER, LANE), frozen, "a snapshot is left alone");
            check_invariants(&state);
            // The same id in another life is another topic; real ids are never used again.
            if !commands.iter().any(|command| matches!(command, Command::DeleteTopic(_))) {
                check_only_forward(&before, &state);
            }
        }
    }
}

fn check_invariants(state: &LaneState) {
    assert!(state.shipped_index() <= state.applied);
    let listed = state.segments.lists().iter().map(|list| (list.first, list.last));
    let unlisted = state.segments.unlisted().map(|(_, segment)| (segment.first, segment.last));
    let begin = state.segments.begin();
    let mut segments = listed.chain(unlisted).peekable();
    let mut shipped = segments.peek().map_or(begin, |(first, _)| *first) - 1;
    assert!(shipped < begin && segments.peek().is_none_or(|(_, last)| begin <= *last), "none is in between");
    for (first, last) in segments {
        assert_eq!(first, shipped + 1, "segments are contiguous in the lane's index");
        shipped = last;
    }
    assert_eq!(shipped, state.shipped_index());
    assert!(begin <= state.segments.needed_from() && state.segments.needed_from() <= state.needed_from());
    let runs = state.topics.values().flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.runs);
    let open: BTreeSet<SegmentId> = runs.map(|run| run.segment).collect();
    assert!(open.iter().all(|id| state.segments.get(*id).is_some()), "what an open run points into is held");
    let needed = |id: SegmentId| id.0 > state.segments.listed_index() || open.contains(&id);
    assert!(state.segments.held().all(|(id, _)| needed(id)), "and nothing else that is listed");
    assert_eq!(state.pending, PendingRuns::of(state.topics.values().map(Arc::as_ref)));
    for topic in state.topics.values() {
        assert_eq!(state.names.get(&topic.name), Some(&topic.id));
        let archived = topic.partitions.iter().flat_map(|partition| &partition.runs).filter_map(|run| {
            let IndexStatus::Archive(key) = &run.indexed else { return None };
            Some(key)
        });
        let archived: BTreeSet<_> = archived.collect();
        assert!(topic.archives.keys().eq(archived), "an archive is there for as long as one of its runs is");
        let pages = topic.pages.iter().map(Arc::as_ref);
        let closed = PageBounds::of_pages(pages).expect("pages follow one another");
        for (number, partition) in (0..).zip(&topic.partitions) {
            let bounds = closed.of(number);
            assert_eq!(partition.closed.scanned_from, bounds.and_then(|bounds| bounds.scanned_from));
            let closed_to = bounds.map_or(0, |bounds| bounds.offsets.end());
            assert!(closed_to == partition.closed.to || partition.is_deleted(partition.closed.to - 1));
            assert!(closed_to <= partition.closed.to);
            assert!(partition.log_start <= partition.next_offset && partition.shipped_to <= partition.next_offset);
            assert!(partition.runs.front().is_none_or(|run| !partition.is_deleted(run.offsets.last)));
            assert!(partition.epochs.front().is_some_and(|(_, start)| *start == partition.log_start));
            assert!(partition.runs.front().is_none_or(|run| partition.closed.to <= run.offsets.first));
            assert!(partition.closed.to <= partition.shipped_to);
            assert!(partition.runs.iter().is_sorted_by(|before, next| before.offsets.last < next.offsets.first));
        }
    }
}

fn check_only_forward(before: &LaneState, after: &LaneState) {
    assert!(before.shipped_index() <= after.shipped_index());
    assert!(before.segments.begin() <= after.segments.begin());
    assert!(before.segments.needed_from() <= after.segments.needed_from());
    for (id, topic) in &before.topics {
        for (earlier, later) in topic.partitions.iter().zip(&after.topics[id].partitions) {
            assert!(earlier.next_offset <= later.next_offset && earlier.shipped_to <= later.shipped_to);
            assert!(earlier.log_start <= later.log_start);
        }
    }
}
