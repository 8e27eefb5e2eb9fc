//! Random histories: no object that the state or a reader needs is ever deleted, and all others are in the end.

use chronik_store::faulty::{StoreFault, StoreOperation};
use proptest::prelude::*;

use super::world::{HistoryLimits, World};
use crate::publish::pages::PageLimits;
use crate::publish::segment_lists::SegmentListLimits;

#[derive(Clone, Debug)]
enum Step {
    Create,
    Append(usize),
    Cut(bool),
    Upload {
        copies: usize,
    },
    Register,
    Archive(usize),
    /// Taken in so late that it is refused.
    ArchiveLate(usize),
    /// Put into its page, but not registered any more.
    ArchiveFiled(usize),
    /// Its indexer stopped before it wrote the result, or the result was lost.
    ArchiveUntold {
        pick: usize,
        with_result: bool,
    },
    TakeInAgain,
    /// Its owner may die before it names the page.
    Compact {
        pick: usize,
        is_told: bool,
    },
    /// Archives of a leaf become one, or all but so many. Its indexer may die before it tells.
    Merge {
        pick: usize,
        alone: usize,
        is_told: bool,
    },
    /// The last result of merging comes again.
    MergeAgain,
    /// Jobs for all that is to be compacted, wherever it is.
    SendCompactions,
    /// An indexer does one of them.
    DoCompaction,
    /// A result comes, for the last time or not.
    TakeInCompaction {
        pick: usize,
        again: bool,
    },
    DeleteTopic(usize),
    /// All of a topic, or what lies below a record.
    DeleteRecords(usize, Option<usize>),
    /// A topic keeps so many bytes, or all.
    KeepBytes(usize, i64),
    Retain,
    Export,
    Wait {
        minutes: i64,
    },
    Run,
    LookThrough,
    Fail(StoreOperation, StoreFault, usize),
    LoseMachine,
}

fn any_step() -> impl Strategy<Value = Step> {
    let pick = 0..64usize;
    let operation = prop_oneof![3 => Just(StoreOperation::Delete), 1 => Just(StoreOperation::Info), 1 => Just(StoreOperation::List)];
    prop_oneof![
        1 => Just(Step::Create),
        6 => pick.clone().prop_map(Step::Append),
        4 => any::<bool>().prop_map(Step::Cut),
        4 => (1..3usize).prop_map(|copies| Step::Upload { copies }),
        4 => Just(Step::Register),
        5 => pick.clone().prop_map(Step::Archive),
        1 => pick.clone().prop_map(Step::ArchiveLate),
        1 => pick.clone().prop_map(Step::ArchiveFiled),
        1 => (pick.clone(), any::<bool>()).prop_map(|(pick, with_result)| Step::ArchiveUntold { pick, with_result }),
        1 => Just(Step::TakeInAgain),
        3 => (pick.clone(), prop::bool::weighted(0.7)).prop_map(|(pick, is_told)| Step::Compact { pick, is_told }),
        3 => (pick.clone(), 0..2usize, prop::bool::weighted(0.8))
            .prop_map(|(pick, alone, is_told)| Step::Merge { pick, alone, is_told }),
        1 => Just(Step::MergeAgain),
        2 => Just(Step::SendCompactions),
        6 => Just(Step::DoCompaction),
        6 => (pick.clone(), prop::bool::weighted(0.2)).prop_map(|(pick, again)| Step::TakeInCompaction { pick, again }),
        1 => pick.clone().prop_map(Step::DeleteTopic),
        2 => (pick.clone(), prop::option::of(0..9usize)).prop_map(|(pick, kept)| Step::DeleteRecords(pick, kept)),
        1 => (pick, -1..300i64).prop_map(|(pick, bytes)| Step::KeepBytes(pick, bytes)),
        4 => Just(Step::Retain),
        4 => Just(Step::Export),
        5 => prop_oneof![4 => 1..90i64, 1 => 90..3000i64].prop_map(|minutes| Step::Wait { minutes }),
        5 => Just(Step::Run),
        2 => Just(Step::LookThrough),
        1 => (operation, prop_oneof![Just(StoreFault::Before), Just(StoreFault::After)], 1..4usize)
            .prop_map(|(operation, fault, times)| Step::Fail(operation, fault, times)),
        1 => Just(Step::LoseMachine),
    ]
}

impl World {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Create => drop(self.create_topic().await),
            Step::Append(pick) => {
                if let Some(topic) = self.any_topic(pick).await {
                    self.append(topic).await;
                }
            }
            Step::Cut(with_checkpoint) => drop(self.broker.lane.cut(with_checkpoint).await.unwrap()),
            Step::Upload { copies } => self.upload(copies).await,
            Step::Register => self.register().await,
            Step::Archive(pick) => drop(self.archive(pick).await),
            Step::ArchiveLate(pick) => {
                if let Some((topic, archive)) = self.build_archive(pick).await {
                    let result = self.answer(topic, archive).await;
                    self.wait_minutes(7 * 60);
                    self.take_in(result).await;
                }
            }
            Step::ArchiveFiled(pick) => {
                if let Some((topic, archive)) = self.build_archive(pick).await {
                    let result = self.answer(topic, archive).await;
                    self.file(result).await;
                }
            }
            Step::ArchiveUntold { pick, with_result } => {
                if let (Some((topic, archive)), true) = (self.build_archive(pick).await, with_result) {
                    self.answer(topic, archive).await;
                }
            }
            Step::TakeInAgain => self.take_in_again().await,
            Step::Compact { pick, is_told } => {
                if let Some(topic) = self.any_topic(pick).await {
                    self.compact(topic, is_told).await;
                }
            }
            Step::Merge { pick, alone, is_told } => {
                if let Some(topic) = self.any_topic(pick).await
                    && let Some(result) = self.merge(topic, alone).await
                {
                    if is_told {
                        self.take_in_merge(&result).await;
                    }
                    self.last_merge = Some(result);
                }
            }
            Step::MergeAgain => {
                if let Some(result) = self.last_merge.clone() {
                    self.take_in_merge(&result).await;
                }
            }
            Step::SendCompactions => drop(self.send_compactions().await),
            Step::DoCompaction => {
                let result = self.do_compaction().await;
                self.compacted.extend(result);
            }
            Step::TakeInCompaction { pick, again } => {
                let Some(at) = pick.checked_rem(self.compacted.len()) else { return };
                let result = self.compacted[at].clone();
                if self.take_in_compaction(&result).await.is_ok() && !again {
                    self.compacted.swap_remove(at);
                }
            }
            Step::DeleteTopic(pick) => {
                if let Some(topic) = self.any_topic(pick).await {
                    self.delete_topic(topic).await;
                }
            }
            Step::DeleteRecords(pick, kept) => {
                if let Some(topic) = self.any_topic(pick).await {
                    self.delete_records(topic, kept.map(|offset| offset as i64)).await;
                }
            }
            Step::KeepBytes(pick, bytes) => {
                if let Some(topic) = self.any_topic(pick).await {
                    self.keep_bytes(topic, bytes).await;
                }
            }
            Step::Retain => self.retain().await,
            Step::Export => {
                self.faulty.heal();
                self.export().await;
            }
            Step::Wait { minutes } => self.wait_minutes(minutes),
            Step::Run => self.run().await,
            Step::LookThrough => self.look_through().await,
            Step::Fail(operation, fault, times) => self.fail_deletion(operation, fault, times).await,
            Step::LoseMachine => self.lose_machine().await,
        }
    }

    /// A run in which calls fail, in effect a crash after any of them.
    async fn fail_deletion(&mut self, operation: StoreOperation, fault: StoreFault, times: usize) {
        self.faulty.fail(operation, "", fault, times);
        self.run().await;
        self.look_through().await;
        self.faulty.heal();
    }

    async fn any_topic(&self, pick: usize) -> Option<chronik_format::ids::TopicId> {
        let topics: Vec<_> = self.state().await.topics.keys().copied().collect();
        topics.get(pick % topics.len().max(1)).copied()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_needed_stays_and_what_is_not_goes(
        steps in prop::collection::vec(any_step(), 1..90),
        page_runs in prop::sample::select(vec![1, 2, 4096]),
        waiting_pages in 1..3usize,
        listed in prop::sample::select(vec![1, 2, 4096]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pages = PageLimits { page_runs, open_runs: 0, waiting_pages, fan_out: 2, ..PageLimits::default() };
            let lists = SegmentListLimits { listed, unlisted: listed };
            let mut world = World::with(HistoryLimits { pages, lists }).await;
            world.create_topic().await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            world.finish().await;
        });
    }
}
