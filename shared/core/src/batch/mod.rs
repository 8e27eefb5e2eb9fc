//! Kafka record batches of magic 2.
