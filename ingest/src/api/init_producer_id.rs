//! InitProducerId (22): gives a producer the id under which it numbers its batches.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use chronik_format::ids::Incarnation;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse};
use futures::future::BoxFuture;

use super::error::ApiError;
use super::{BrokerContext, answer};
use crate::lane::Lane;
use crate::state::LaneState;
use crate::state::command::{Command, NewProducerId};
use crate::state::producer::producer_id;

/// The ids that were not given out yet.
pub struct ProducerIds {
    incarnation: Incarnation,
    next: AtomicI64,
}

impl ProducerIds {
    /// Those that a state leaves.
    pub fn after(state: &LaneState) -> Self {
        Self { incarnation: state.incarnation, next: AtomicI64::new(state.producer_ids) }
    }

    /// One that no producer has had; durable.
    async fn take(&self, lane: &Lane) -> Result<i64, ApiError> {
        let number = self.next.fetch_add(1, Relaxed);
        lane.propose(Command::NewProducerId(NewProducerId { number })).await?;
        Ok(producer_id(self.incarnation, number))
    }
}

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: InitProducerIdRequest| async move {
        // A producer that names the id it has gets another one, as with Kafka.
        let taken = match asked.transactional_id {
            None => broker.producer_ids.take(&broker.lane).await,
            Some(_) => Err(ApiError::Transactional),
        };
        match taken {
            Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
            Err(error) => {
                let error_code = code(&error);
                InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..Default::default() }
            }
        }
    })
}

/// What the lane does not do now is done if the producer asks again: all producers take this code for that, others not.
fn code(error: &ApiError) -> ErrorCode {
    match error {
        ApiError::Transactional => error.code(),
        _ => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    }
}
