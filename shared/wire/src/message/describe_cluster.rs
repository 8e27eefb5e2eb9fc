//! DescribeCluster (60): the cluster's id and its brokers.

use super::OPERATIONS_NOT_ASKED;
use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DescribeCluster, 0..=1, DescribeClusterRequest => DescribeClusterResponse);

schema! {
    /// Asks for the cluster's id and brokers.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool = false, 0..;
        /// 1: brokers, 2: controllers.
        endpoint_type: i8 = 1, 1..;
    }

    /// The cluster.
    DescribeClusterResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        error_message: Option<String> = None, 0..;
        /// 1: brokers, 2: controllers.
        endpoint_type: i8 = 1, 1..;
        cluster_id: String = String::new(), 0..;
        /// The broker that admin requests go to, or -1.
        controller_id: i32 = -1, 0..;
        brokers: Vec<DescribeClusterBroker> = Vec::new(), 0..;
        /// A bit an operation that the client may do with the cluster.
        cluster_authorized_operations: i32 = OPERATIONS_NOT_ASKED, 0..;
    }

    /// One broker.
    DescribeClusterBroker {
        broker_id: i32 = 0, 0..;
        host: String = String::new(), 0..;
        port: i32 = 0, 0..;
        rack: Option<String> = None, 0..;
    }
}
