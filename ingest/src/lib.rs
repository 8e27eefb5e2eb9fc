//! The Kafka broker: owns the write-ahead log, the lane's state and the catalog.

pub mod disk;
pub mod settings;
pub mod wal;
