//! Fetch (1): reads batches in the request's order, and waits for more if there are too few.
//!
//! Fetch sessions (KIP-227) are declined: every request names all that it wants, and every answer says session 0.

mod budget;
mod messages;
mod read;
mod room;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chronik_format::batch::MessageMagic;
use chronik_format::ids::TopicId;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, Message};
use futures::future::{BoxFuture, ready};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;
use uuid::Uuid;

use self::budget::AnswerBudget;
use self::read::PartitionRead;
pub use self::room::FetchRoom;
use self::room::{AnswerClient, HeldFetchRoom};
use super::BrokerContext;
use super::error::ApiError;
use super::live_partition::LivePartition;
use crate::lane::tail::PartitionTail;

/// An answer has at most so many bytes of batches, whatever the client asks for (but for one batch larger than this).
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A client whose answer finds no room waits at least so long before it gets an empty one, so that it does not ask
/// without pause.
const ROOM_WAIT_MIN: Duration = Duration::from_millis(100);
/// Topics are named by id from this version on.
const IDS_FROM: i16 = 13;
/// Kafka's isolation level "read committed".
const READ_COMMITTED: i8 = 1;

/// What is read of one topic.
struct TopicRead {
    name: String,
    id: Uuid,
    partitions: Vec<PartitionRead>,
}

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    let asked = match request.decode::<FetchRequest>() {
        Ok(asked) => asked,
        Err(error) => return ready(error.into()).boxed(),
    };
    let follower = asked.replica_id.max(asked.replica_state.replica_id);
    if follower >= 0 {
        return ready(RequestOutcome::close(format!(
            "broker {follower} fetches as a follower; this cluster has no followers"
        )))
        .boxed();
    }
    let client = AnswerClient { peer: request.peer, delivery: request.delivery };
    async move {
        let (response, room) = fetch(&broker, asked, version, &client).await;
        let answer = response.encode(version);
        RequestOutcome::Answer(match room {
            Some(room) => room.until_sent(answer),
            None => answer,
        })
    }
    .boxed()
}

/// The response, and the room that its records have.
async fn fetch(
    broker: &BrokerContext,
    asked: FetchRequest,
    version: i16,
    client: &AnswerClient,
) -> (FetchResponse, Option<HeldFetchRoom>) {
    if asked.session_epoch > 0 {
        let response = FetchResponse { error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ..Default::default() };
        return (response, None);
    }
    let deadline = Instant::now() + Duration::from_millis(asked.max_wait_ms.max(0).unsigned_abs().into());
    let mut budget = AnswerBudget::new(asked.max_bytes, ANSWER_BYTES_MAX);
    let enough = budget.enough(asked.min_bytes);
    let read_committed = asked.isolation_level == READ_COMMITTED;
    let mut topics: Vec<_> = asked.topics.into_iter().map(|topic| begin(broker, topic, version)).collect();
    let tails: Vec<Arc<PartitionTail>> = partitions(&mut topics).filter_map(|read| read.tail()).collect();
    loop {
        // Taken before the ends are looked at, so that no growth falls between the two.
        let grown: Vec<_> = tails.iter().map(|tail| tail.grown()).collect();
        partitions(&mut topics).for_each(PartitionRead::look);
        let urgent = partitions(&mut topics).any(|read| read.is_urgent());
        let ahead: usize = partitions(&mut topics).map(|read| read.bytes_ahead()).sum();
        if urgent || ahead >= enough || tails.is_empty() {
            break;
        }
        let mut grown = pin!(grown.into_iter().collect::<FuturesUnordered<_>>());
        if tokio::time::timeout_at(deadline, grown.next()).await.is_err() {
            break;
        }
    }
    let batch_bytes = partitions(&mut topics).map(|read| read.next_batch_bytes_max()).max();
    let room = match batch_bytes.unwrap_or(0) {
        0 => None,
        least => {
            let deadline = deadline.max(Instant::now() + ROOM_WAIT_MIN);
            let wanted = budget.wanted(least);
            broker.answers.take(client, least, wanted, deadline).await
        }
    };
    let room = match room {
        Some(room) => Some(fill(broker, &mut topics, &mut budget, room, messages::magic_in(version)).await),
        None => None,
    };
    let response = |topic: TopicRead| FetchableTopicResponse {
        partitions: topic.partitions.into_iter().map(|read| read.into_response(version, read_committed)).collect(),
        topic: topic.name,
        topic_id: topic.id,
    };
    let response = FetchResponse { responses: topics.into_iter().map(response).collect(), ..Default::default() };
    (response, room)
}

/// Reads what there is, as far as there is room, and gives back what was not needed of it.
async fn fill(
    broker: &BrokerContext,
    topics: &mut [TopicRead],
    budget: &mut AnswerBudget,
    mut room: HeldFetchRoom,
    magic: Option<MessageMagic>,
) -> HeldFetchRoom {
    budget.keep_to(room.bytes());
    for read in partitions(topics) {
        read.read(&broker.reader, budget, magic).await;
    }
    room.keep(budget.taken());
    room
}

fn begin(broker: &BrokerContext, asked: FetchTopic, version: i16) -> TopicRead {
    let topics = broker.lane.topics();
    let by_id = version >= IDS_FROM;
    let topic = if by_id { topics.get(TopicId(asked.topic_id)) } else { topics.named(&asked.topic) };
    let unknown = || {
        if by_id { ApiError::UnknownTopicId } else { ApiError::UnknownTopic }
    };
    let partitions = asked.partitions.iter().map(|partition| {
        let place = topic.ok_or_else(unknown).and_then(|topic| LivePartition::of(topic, partition.partition));
        PartitionRead::begin(place, by_id, partition)
    });
    TopicRead { partitions: partitions.collect(), name: asked.topic, id: asked.topic_id }
}

fn partitions(topics: &mut [TopicRead]) -> impl Iterator<Item = &mut PartitionRead> {
    topics.iter_mut().flat_map(|topic| &mut topic.partitions)
}
