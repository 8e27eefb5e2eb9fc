//! FindCoordinator (10): the broker that a group or a transactional id belongs to.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(FindCoordinator, 0..=6, FindCoordinatorRequest => FindCoordinatorResponse);

schema! {
    /// Asks for coordinators: for one key up to version 3, for several from version 4 on.
    FindCoordinatorRequest {
        /// The group or the transactional id.
        key: String = String::new(), 0..=3;
        /// 0: group, 1: transactional id, 2: share group. Version 0 asks for groups alone.
        key_type: i8 = 0, 1..;
        /// The groups or the transactional ids.
        coordinator_keys: Vec<String> = Vec::new(), 4..;
    }

    /// Where coordinators are found: in the response's own fields up to version 3, one a key from version 4 on.
    FindCoordinatorResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        error_code: ErrorCode = ErrorCode::NONE, 0..=3;
        error_message: Option<String> = Some(String::new()), 1..=3;
        /// -1 with an error.
        node_id: i32 = 0, 0..=3;
        host: String = String::new(), 0..=3;
        port: i32 = 0, 0..=3;
        coordinators: Vec<KeyCoordinator> = Vec::new(), 4..;
    }

    /// The coordinator of one key.
    KeyCoordinator {
        key: String = String::new(), 4..;
        /// -1 with an error.
        node_id: i32 = 0, 4..;
        host: String = String::new(), 4..;
        port: i32 = 0, 4..;
        error_code: ErrorCode = ErrorCode::NONE, 4..;
        error_message: Option<String> = Some(String::new()), 4..;
    }
}
