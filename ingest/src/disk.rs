//! The disk, as far as the write-ahead log needs it.
