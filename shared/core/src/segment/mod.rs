//! Objects that hold the batches and the command log of a range of a lane.
