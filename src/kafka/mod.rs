//! A Kafka client, as small as the operator's tool needs it: topics, appends, reads, groups. It speaks the versions
//! that both sides know. Topics go by their names, and where they are read by their ids too.

mod assignment;
mod client;
mod connection;
mod deletion;
mod error;
mod groups;
mod membership;
mod partitioner;
mod producer;
mod settings;

pub use assignment::{Assignment, assignment};
pub use client::{KafkaClient, TopicLeaders};
pub use error::KafkaError;
pub use groups::{CommittedOffsets, Committer};
pub use membership::GroupMember;
pub use partitioner::partition_of_key;
pub use producer::IdempotentProducer;
pub use settings::SettingChange;
