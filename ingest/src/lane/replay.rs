//! A lane's way back from its local files: the newest checkpoint, then the frames of the write-ahead log.

use chronik_core::ids::LogIndex;

use super::border::FrameWeight;
use super::tail::{TailBatch, TopicTable};
use crate::command::{Command, CommandError};
use crate::state::LaneState;
use crate::wal::{Frame, FramePlace};

/// What an owner starts from.
pub struct Replayed {
    /// The state at the last good frame.
    pub state: LaneState,
    /// The living topics and what the log holds of them.
    pub topics: TopicTable,
    /// The frames beyond the last registered segment, in order.
    pub unshipped: Vec<(LogIndex, FrameWeight)>,
}

/// Takes in the frames of a log, oldest first.
pub struct Replay {
    state: LaneState,
    frames: Vec<KnownFrame>,
}

/// A frame without its bytes.
struct KnownFrame {
    place: FramePlace,
    appends: Vec<crate::command::Append>,
    weight: FrameWeight,
}

impl Replay {
    /// Starts at a checkpoint, or at the beginning.
    pub fn new(state: LaneState) -> Self {
        Self {
            state,
            frames: Vec::new(),
        }
    }

    /// Takes in one frame. The state of a frame at or below the checkpoint is known already; its batches are not.
    pub fn take(&mut self, frame: Frame, place: FramePlace) -> Result<(), CommandError> {
        let commands = Command::decode_all(&frame.commands)?;
        if frame.index > self.state.applied {
            self.state.apply_frame(frame.index, &commands);
        }
        let batch_bytes: usize = frame.batches.iter().map(bytes::Bytes::len).sum();
        let weight = FrameWeight::of(&commands, frame.commands.len() as u64, batch_bytes as u64);
        let appends = commands
            .into_iter()
            .filter_map(|command| match command {
                Command::Append(append) => Some(append),
                _ => None,
            })
            .collect();
        self.frames.push(KnownFrame { place, appends, weight });
        Ok(())
    }

    /// The end of the log. Batches of topics that live are published; those of others have no reader.
    pub fn finish(self) -> Replayed {
        let topics = TopicTable::default().with_topics(self.state.topics.values());
        let shipped = self.state.shipped_index();
        let mut unshipped = Vec::new();
        for frame in &self.frames {
            for append in &frame.appends {
                if let Some(partition) = topics.partition(append.topic, append.partition) {
                    partition.push(TailBatch::new(append, &frame.place, None));
                }
            }
            if frame.place.index > shipped {
                unshipped.push((frame.place.index, frame.weight));
            }
        }
        Replayed {
            state: self.state,
            topics,
            unshipped,
        }
    }
}
