//! The only place where the state changes; what groups and producers do has files of its own.

mod dropping;
mod groups;
mod pages;
mod producers;
mod records;

pub use self::records::LogStarts;

use std::sync::Arc;

use chronik_format::catalog::ArchiveRun;
use chronik_format::ids::{LogIndex, Offset, TopicId};
use chronik_format::job::CoveredRun;

use crate::state::command::{
    AddPartitions, AlterTopicConfig, Append, ArchiveFacts, Command, CreateTopic, DeleteTopic, ForgetResults,
    ForgetTombstones, GiveUp, ListSegments, RegisterResult, RegisterSegment, ScannedRun,
};
use crate::state::partition::{IndexStatus, PartitionState};
use crate::state::producer::Producers;
use crate::state::refusal::CommandRefusal;
use crate::state::segments::{LiveArchive, NAMED_AGO_MS_MAX, Tombstone};
use crate::state::topic::TopicState;
use crate::state::{LaneState, leader_epoch};

/// Where the batch of an append lies, for its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// First offset of the partition that can be read.
    pub log_start: Offset,
}

impl LaneState {
    /// Applies the commands of the frame at `index`, in order.
    pub fn apply_frame(&mut self, index: LogIndex, commands: &[Command]) -> Vec<Result<(), CommandRefusal>> {
        self.begin_frame(index);
        commands.iter().map(|command| self.apply(command)).collect()
    }

    /// The commands applied from now on are those of the frame at `index`.
    pub fn begin_frame(&mut self, index: LogIndex) {
        self.applied = index;
    }

    /// Applies the next command of the frame. What answers with a value has a method of its own, for who waits for it.
    pub fn apply(&mut self, command: &Command) -> Result<(), CommandRefusal> {
        match command {
            Command::Append(append) => self.append(append).map(drop),
            Command::CreateTopic(create) => self.create_topic(create),
            Command::DeleteTopic(delete) => self.delete_topic(delete),
            Command::AlterTopicConfig(alter) => self.alter_topic_config(alter),
            Command::AddPartitions(add) => self.add_partitions(add),
            Command::DeleteRecords(delete) => self.delete_records(delete).map(drop),
            Command::RegisterSegment(segment) => self.register_segment(segment),
            Command::RegisterResult(result) => self.register_result(result),
            Command::GiveUp(given_up) => self.give_up(given_up),
            Command::ClosePage(close) => self.close_page(close),
            Command::ReplacePages(replace) => self.replace_pages(replace),
            Command::ListSegments(listed) => self.list_segments(listed),
            Command::DropSegments(dropped) => self.drop_segments(dropped),
            Command::ForgetSegments(forget) => self.forget_segments(forget),
            Command::ForgetResults(forget) => self.forget_results(forget),
            Command::ForgetTombstones(forget) => self.forget_tombstones(forget),
            Command::SaveGroup(save) => self.save_group(save),
            Command::CommitOffsets(commit) => self.commit_offsets(commit),
            Command::ForgetOffsets(forget) => self.forget_offsets(forget),
            Command::DeleteGroup(delete) => self.delete_group(delete),
            Command::NewProducerId(new) => self.new_producer_id(new),
            Command::ForgetProducers(forget) => self.forget_producers(forget),
        }
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicState, CommandRefusal> {
        self.topics.get_mut(&id).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)
    }

    /// Applies an append, the next command of the frame.
    pub fn append(&mut self, append: &Append) -> Result<BatchPlace, CommandRefusal> {
        let topic = self.topic_mut(append.topic)?;
        let partition = topic.partition_mut(append.partition).ok_or(CommandRefusal::UnknownPartition)?;
        if append.base_offset < partition.next_offset {
            let (base_offset, next_offset) = (append.base_offset, partition.next_offset);
            return Err(CommandRefusal::BelowEnd { base_offset, next_offset });
        }
        partition.number(append)?;
        partition.next_offset = append.last_offset + 1;
        Ok(BatchPlace { base_offset: append.base_offset, log_start: partition.log_start })
    }

    fn create_topic(&mut self, create: &CreateTopic) -> Result<(), CommandRefusal> {
        let name: Arc<str> = create.name.as_str().into();
        if self.names.contains_key(&name) {
            return Err(CommandRefusal::TopicExists);
        }
        let (epoch, producers) = (leader_epoch(self.incarnation), Producers::new(self.forgotten_producers));
        let topic = TopicState {
            id: create.id,
            name: name.clone(),
            config: create.config.clone(),
            batch_bytes_max: create.config.message_bytes_max(),
            index_epoch: 0,
            partitions: (0..create.partitions)
                .map(|_| Arc::new(PartitionState::new(epoch, producers.clone())))
                .collect(),
            pages: Default::default(),
            archives: Default::default(),
            changed: self.applied,
        };
        self.names.insert(name, create.id);
        self.topics.insert(create.id, Arc::new(topic));
        Ok(())
    }

    fn delete_topic(&mut self, delete: &DeleteTopic) -> Result<(), CommandRefusal> {
        let topic = self.topics.remove(&delete.id).ok_or(CommandRefusal::UnknownTopic)?;
        self.names.remove(&topic.name);
        let tombstone = Tombstone::of_all(self.applied, delete.at);
        let pages = topic.pages.iter().map(|page| page.object.clone());
        let objects = topic.archives.keys().map(ToString::to_string).chain(pages);
        self.tombstones.extend(objects.map(|object| (object, tombstone)));
        self.pending.remove_topic(topic.id);
        let runs = topic.partitions.iter().flat_map(|partition| &partition.runs);
        runs.for_each(|run| self.segments.remove_open_run(run.segment));
        self.forget_known_producers();
        Ok(())
    }

    fn alter_topic_config(&mut self, alter: &AlterTopicConfig) -> Result<(), CommandRefusal> {
        let topic = self.topics.get_mut(&alter.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        let config = topic.config.changed(&alter.change)?;
        if config.index_settings() != topic.config.index_settings() {
            topic.index_epoch += 1;
        }
        topic.batch_bytes_max = topic.batch_bytes_max.max(config.message_bytes_max());
        topic.config = config;
        topic.changed = self.applied;
        self.pending.renew_topic(topic);
        Ok(())
    }

    fn add_partitions(&mut self, add: &AddPartitions) -> Result<(), CommandRefusal> {
        let (applied, epoch) = (self.applied, leader_epoch(self.incarnation));
        let producers = Producers::new(self.forgotten_producers);
        let topic = self.topic_mut(add.topic)?;
        let partitions = topic.partitions.len();
        let more = usize::try_from(add.count).ok().and_then(|count| count.checked_sub(partitions));
        let more = more.filter(|more| *more > 0).ok_or(CommandRefusal::HasPartitions { partitions })?;
        topic.partitions.extend((0..more).map(|_| Arc::new(PartitionState::new(epoch, producers.clone()))));
        topic.changed = applied;
        Ok(())
    }

    fn register_segment(&mut self, segment: &RegisterSegment) -> Result<(), CommandRefusal> {
        if !self.segments.accepts(segment, self.incarnation, self.applied) {
            return Err(CommandRefusal::SegmentOutOfPlace);
        }
        if !self.segments.is_fresh(segment) {
            return Err(CommandRefusal::SegmentTooOld);
        }
        self.add_segment(segment)
    }

    /// Registers a segment that recovery found in the bucket: contiguity counts, age and owner don't.
    pub fn adopt_segment(&mut self, segment: &RegisterSegment) -> Result<(), CommandRefusal> {
        if !self.segments.continues(segment) || segment.last > self.applied {
            return Err(CommandRefusal::SegmentOutOfPlace);
        }
        self.add_segment(segment)
    }

    /// A segment counts as a whole or not at all. Runs of topics that were deleted meanwhile are left out.
    fn add_segment(&mut self, segment: &RegisterSegment) -> Result<(), CommandRefusal> {
        for run in &segment.runs {
            let Some(topic) = self.topics.get(&run.topic) else {
                continue;
            };
            if !topic.partition(run.partition).ok_or(CommandRefusal::UnknownPartition)?.continues(run) {
                return Err(CommandRefusal::SegmentOutOfPlace);
            }
        }
        let (id, mut open) = (self.segments.insert(segment), 0);
        for run in &segment.runs {
            let Some(topic) = self.topics.get_mut(&run.topic).map(Arc::make_mut) else {
                continue;
            };
            topic.changed = self.applied;
            let partition = topic.partition_mut(run.partition).ok_or(CommandRefusal::UnknownPartition)?;
            if partition.add_run(id, run) {
                open += 1;
                self.pending.add(topic, run.partition, run.offsets.first);
            }
        }
        self.segments.add_open_runs(id, open);
        Ok(())
    }

    fn list_segments(&mut self, ListSegments { list }: &ListSegments) -> Result<(), CommandRefusal> {
        if !self.segments.accepts_list(list) {
            return Err(CommandRefusal::SegmentListOutOfPlace);
        }
        self.segments.insert_list(list.clone());
        Ok(())
    }

    /// A repeated one changes nothing: its archives may lie in pages by now, where the state does not see them.
    fn register_result(&mut self, result: &RegisterResult) -> Result<(), CommandRefusal> {
        if self.results.contains_key(&result.result) {
            return Ok(());
        }
        self.results.insert(result.result.clone(), self.applied);
        for archive in &result.archives {
            if !self.register_archive(result, archive) {
                let tombstone = Tombstone::of_all(self.applied, result.at);
                self.tombstones.entry(archive.key.clone()).or_insert(tombstone);
            }
        }
        self.mark_unreadable(result.topic, &result.unreadable)
    }

    /// The first valid archive of a run wins; one that is registered already stays, and a tombstoned one stays dead.
    /// Runs whose records were deleted meanwhile don't count, as long as there are others. `false`: this one is not
    /// needed.
    fn register_archive(&mut self, result: &RegisterResult, archive: &ArchiveFacts) -> bool {
        let applied = self.applied;
        let Some(topic) = self.topics.get_mut(&result.topic).map(Arc::make_mut) else {
            return false;
        };
        let key: Arc<str> = archive.key.as_str().into();
        if topic.archives.contains_key(&key) {
            return true;
        }
        if self.tombstones.contains_key(&archive.key) {
            return false;
        }
        let fresh = result.at.saturating_sub(archive.named_at) < NAMED_AGO_MS_MAX;
        let wanted = |run: &CoveredRun| {
            let known = topic.partition(run.partition).and_then(|partition| partition.run_at(run.first));
            known.is_some_and(|known| {
                known.offsets.last == run.last
                    && !matches!(known.indexed, IndexStatus::Archive(_))
                    && self.segments.get(known.segment).is_some_and(|segment| *segment.key == *run.segment)
            })
        };
        let is_deleted =
            |run: &CoveredRun| topic.partition(run.partition).is_some_and(|partition| partition.is_deleted(run.last));
        let mut kept = archive.runs.iter().filter(|run| !is_deleted(run)).peekable();
        if !fresh || topic.index_epoch != result.index_epoch || kept.peek().is_none() || !kept.all(wanted) {
            return false;
        }
        for run in &archive.runs {
            let partition = topic.partition_mut(run.partition);
            if let Some(known) = partition.and_then(|partition| partition.run_at_mut(run.first)) {
                known.indexed = IndexStatus::Archive(key.clone());
                self.pending.remove(&(topic.id, run.partition, run.first));
            }
        }
        topic.changed = applied;
        topic.archives.insert(key, Arc::new(live_archive(archive)));
        true
    }

    fn give_up(&mut self, given_up: &GiveUp) -> Result<(), CommandRefusal> {
        self.mark_unreadable(given_up.topic, &given_up.runs)
    }

    fn mark_unreadable(&mut self, topic: TopicId, runs: &[ScannedRun]) -> Result<(), CommandRefusal> {
        let topic = self.topics.get_mut(&topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        for run in runs {
            let partition = topic.partition_mut(run.partition);
            if let Some(known) = partition.and_then(|partition| partition.run_at_mut(run.first))
                && known.indexed == IndexStatus::Pending
            {
                known.indexed = IndexStatus::Unreadable(run.reason.as_str().into());
                topic.changed = self.applied;
                self.pending.remove(&(topic.id, run.partition, run.first));
            }
        }
        Ok(())
    }

    fn forget_results(&mut self, forget: &ForgetResults) -> Result<(), CommandRefusal> {
        for result in &forget.results {
            self.results.remove(result);
        }
        Ok(())
    }

    fn forget_tombstones(&mut self, forget: &ForgetTombstones) -> Result<(), CommandRefusal> {
        for object in &forget.objects {
            self.tombstones.remove(object);
        }
        Ok(())
    }
}

fn live_archive(archive: &ArchiveFacts) -> LiveArchive {
    LiveArchive {
        size: archive.size,
        crc: archive.crc,
        records: archive.records,
        runs: archive.runs.iter().map(archive_run).collect(),
    }
}

/// A run that an archive covers, as catalog and state name it.
pub fn archive_run(run: &CoveredRun) -> ArchiveRun {
    ArchiveRun {
        partition: run.partition,
        first: run.first,
        last: run.last,
        min_timestamp: run.min_timestamp,
        max_timestamp: run.max_timestamp,
    }
}
