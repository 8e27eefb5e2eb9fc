//! Fetch (1): reads batches in order, and waits for more if there are too few.
//!
//! A request without a session names all that it wants, and is told of all of it, in its order. In a [`session`], it
//! names what it wants otherwise than before, and is told of what has changed.

mod budget;
mod messages;
mod read;
mod reads;
mod room;
mod scope;
pub(super) mod session;
mod sessions;
mod shared_session;

use std::sync::Arc;
use std::time::Duration;

use chronik_format::batch::MessageMagic;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{FetchRequest, FetchResponse, FetchableTopicResponse, Message, PartitionData};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::time::{Instant, timeout_at};

use self::budget::AnswerBudget;
use self::read::PartitionRead;
use self::reads::PartitionReads;
pub use self::room::FetchRoom;
use self::room::{AnswerClient, HeldFetchRoom};
use self::scope::FetchScope;
use self::session::SessionError;
use self::session::{PartitionKey, TopicKey};
use self::sessions::SessionClaim;
pub use self::sessions::{FetchSessions, SessionLimits};
use super::BrokerContext;
use super::error::ApiError;

/// An answer has at most so many bytes of batches, whatever the client asks for (but for one batch larger than this).
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A client whose answer finds no room waits at least so long before it gets an empty one, so that it does not ask
/// without pause.
const ROOM_WAIT_MIN: Duration = Duration::from_millis(100);
/// Topics are named by id from this version on.
const IDS_FROM: i16 = 13;
/// Kafka's isolation level "read committed".
const READ_COMMITTED: i8 = 1;

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
    answer(broker, asked, version, client).await.unwrap_or_else(|refused| {
        let error_code = ApiError::from(refused).code();
        (FetchResponse { error_code, ..Default::default() }, None)
    })
}

async fn answer(
    broker: &BrokerContext,
    asked: FetchRequest,
    version: i16,
    client: &AnswerClient,
) -> Result<(FetchResponse, Option<HeldFetchRoom>), SessionError> {
    let deadline = Instant::now() + Duration::from_millis(asked.max_wait_ms.max(0).unsigned_abs().into());
    let mut budget = AnswerBudget::new(asked.max_bytes, ANSWER_BYTES_MAX);
    let enough = budget.enough(asked.min_bytes);
    let read_committed = asked.isolation_level == READ_COMMITTED;
    let scope = open(broker, asked, version)?;
    let mut reads = wait(broker, &scope, enough, deadline).await?.in_order();
    let batch_bytes = reads.iter().map(PartitionRead::next_batch_bytes_max).max();
    let room = match batch_bytes.unwrap_or(0) {
        0 => None,
        least => {
            let deadline = deadline.max(Instant::now() + ROOM_WAIT_MIN);
            let wanted = budget.wanted(least);
            broker.answers.take(client, least, wanted, deadline).await
        }
    };
    let room = match room {
        Some(room) => Some(fill(broker, &mut reads, &mut budget, room, messages::magic_in(version)).await),
        None => None,
    };
    let responses = reads.into_iter().map(|read| read.into_found(version, read_committed)).collect();
    let (session_id, told) = broker.sessions.settle(scope, responses, Instant::now().into_std())?;
    Ok((FetchResponse { session_id, responses: by_topic(told), ..Default::default() }, room))
}

/// Finds what the request reads.
fn open(broker: &BrokerContext, asked: FetchRequest, version: i16) -> Result<FetchScope, SessionError> {
    let by_id = version >= IDS_FROM;
    let claim = SessionClaim { session_id: asked.session_id, session_epoch: asked.session_epoch, by_id };
    let named = PartitionKey::of_topics(asked.topics, by_id);
    let forgotten = PartitionKey::of_forgotten(asked.forgotten_topics_data, by_id);
    broker.sessions.open(&claim, named, &forgotten, Instant::now().into_std())
}

/// Looks at what the request reads, and again at what changes, until there are `enough` bytes or `deadline` is over.
async fn wait(
    broker: &BrokerContext,
    scope: &FetchScope,
    enough: usize,
    deadline: Instant,
) -> Result<PartitionReads, SessionError> {
    let (watcher, mut reads) = (scope.watcher(), PartitionReads::default());
    let (mut is_watched, is_empty) = match scope {
        FetchScope::Full(full) => (false, full.named.is_empty()),
        FetchScope::Incremental(_) => (true, false),
    };
    reads.look(&broker.lane.topics(), scope.due(), is_watched.then_some(&watcher));
    while !is_empty && !reads.are_worth_answering(enough) {
        if !is_watched && Instant::now() < deadline {
            reads.watch(&watcher);
            is_watched = true;
            continue;
        }
        if timeout_at(deadline, watcher.woken()).await.is_err() {
            break;
        }
        // Who waits for the session's next request is woken in place of this one.
        let changed = scope.changed().inspect_err(|_| watcher.wake())?;
        reads.look(&broker.lane.topics(), changed, Some(&watcher));
    }
    Ok(reads)
}

/// Reads what there is, as far as there is room, and gives back what was not needed of it.
async fn fill(
    broker: &BrokerContext,
    reads: &mut [PartitionRead],
    budget: &mut AnswerBudget,
    mut room: HeldFetchRoom,
    magic: Option<MessageMagic>,
) -> HeldFetchRoom {
    budget.keep_to(room.bytes());
    for read in reads {
        read.read(&broker.reader, budget, magic).await;
    }
    room.keep(budget.taken());
    room
}

/// Puts neighbours of one topic together; the order stays.
fn by_topic(told: Vec<(TopicKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<(TopicKey, Vec<PartitionData>)> = Vec::new();
    for (topic, partition) in told {
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(partition),
            _ => topics.push((topic, vec![partition])),
        }
    }
    let response = |(topic, partitions)| match topic {
        TopicKey::Name(name) => FetchableTopicResponse { topic: name.to_string(), partitions, ..Default::default() },
        TopicKey::Id(id) => FetchableTopicResponse { topic_id: id.0, partitions, ..Default::default() },
    };
    topics.into_iter().map(response).collect()
}
