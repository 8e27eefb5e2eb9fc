//! InitProducerId (22): the id and epoch that an idempotent or transactional producer writes with.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(InitProducerId, 0..=5, InitProducerIdRequest => InitProducerIdResponse);

schema! {
    /// Asks for a producer id, or for the next epoch of one.
    InitProducerIdRequest {
        /// Null for a producer that is idempotent alone.
        transactional_id: Option<String> = Some(String::new()), 0..;
        /// Milliseconds after which an open transaction is aborted.
        transaction_timeout_ms: i32 = 0, 0..;
        /// The id that the producer has, or -1.
        producer_id: i64 = -1, 3..;
        /// The epoch that the producer has, or -1; another one than the broker's is refused.
        producer_epoch: i16 = -1, 3..;
    }

    /// The producer's id and epoch.
    InitProducerIdResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// -1 with an error.
        producer_id: i64 = -1, 0..;
        /// -1 with an error.
        producer_epoch: i16 = 0, 0..;
    }
}
