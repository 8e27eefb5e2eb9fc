//! The APIs of consumer groups, one a file: who coordinates them, how members join and stay, and the offsets they commit.

pub mod delete_groups;
pub mod describe_groups;
pub mod find_coordinator;
pub mod heartbeat;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod sync_group;

use chronik_wire::ErrorCode;

use crate::groups::GroupError;

use super::error::ApiError;

fn code(error: GroupError) -> ErrorCode {
    ApiError::Group(error).code()
}
