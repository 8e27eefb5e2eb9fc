//! A Kafka client, as small as the operator's tool needs it: topics, appends, reads. It speaks the versions that
//! both sides know, up to the last one that names topics rather than numbering them.

mod client;
mod connection;
mod error;
mod partitioner;

pub use client::{KafkaClient, TopicLeaders};
pub use error::KafkaError;
pub use partitioner::partition_of_key;
