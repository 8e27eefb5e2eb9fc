//! Heartbeat (12): a member says that it lives, and hears of a rebalance.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(Heartbeat, 0..=4, HeartbeatRequest => HeartbeatResponse);

schema! {
    /// A member's sign of life.
    HeartbeatRequest {
        group_id: String = String::new(), 0..;
        generation_id: i32 = 0, 0..;
        member_id: String = String::new(), 0..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 3..;
    }

    /// Whether the member is still part of the generation.
    HeartbeatResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// REBALANCE_IN_PROGRESS asks the member to join again.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
