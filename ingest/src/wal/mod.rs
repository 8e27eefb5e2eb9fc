//! The write-ahead log of one lane.
