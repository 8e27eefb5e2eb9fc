//! Answers to clients that know messages of magic 0 and 1, and no batches.

use bytes::Bytes;
use chronik_format::batch::{MessageMagic, messages_of_batches};
use chronik_format::ids::Offset;
use tokio::sync::Semaphore;

use super::budget::AnswerBudget;
use crate::api::error::ApiError;
use crate::lane::tail::BatchBytes;
use crate::reading::{ReadError, aside};

/// Each answer that is made of messages has the records of one batch in memory, unpacked; so many are made at once.
static TURNS: Semaphore = Semaphore::const_new(4);

/// What messages a version of Fetch has in place of batches.
pub fn magic_in(version: i16) -> Option<MessageMagic> {
    match version {
        0..=1 => Some(MessageMagic::V0),
        2..=3 => Some(MessageMagic::V1),
        _ => None,
    }
}

/// Takes batches and makes messages of their records from offset `from` on, no more of them than fit in the room that
/// is there for the batches. An answer's first message is taken however large it is, as a reader would never get past
/// it.
pub async fn take(
    batches: Vec<BatchBytes>,
    magic: MessageMagic,
    from: Offset,
    budget: &mut AnswerBudget,
    room: usize,
) -> Result<Bytes, ApiError> {
    let is_first = budget.taken() == 0;
    let batches = budget.take(batches, room);
    let taken = batches.iter().map(BatchBytes::length).sum();
    let made = {
        let _turn = TURNS.acquire().await.map_err(|_| ReadError::Aborted)?;
        let whole = batches.into_iter().map(|batch| batch.contiguous());
        aside(move || messages_of_batches(whole, magic, from, room.max(taken), is_first)).await?
    };
    budget.exchange(taken, made.as_ref().map_or(0, Bytes::len));
    Ok(made?)
}
