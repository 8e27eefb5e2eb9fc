use chronik_wire::DescribeClusterRequest;

use super::*;

#[tokio::test]
async fn a_cluster_is_its_id_and_one_broker() {
    let mut cluster = None;
    let served = Served::with(|broker| cluster = Some(broker.cluster.to_string())).await;
    for version in DescribeClusterRequest::VERSIONS {
        for (include, operations) in [(false, i32::MIN), (true, 8096)] {
            let asked = DescribeClusterRequest { include_cluster_authorized_operations: include, ..Default::default() };
            let answer = served.ask(version, asked).await;
            assert_eq!((answer.error_code, answer.error_message), (ErrorCode::NONE, None));
            assert_eq!((Some(answer.cluster_id), answer.controller_id), (cluster.clone(), 1));
            let brokers: Vec<_> = answer.brokers.iter().map(|b| (b.broker_id, b.host.as_str(), b.port)).collect();
            assert_eq!(brokers, [(1, "broker.test", 9092)]);
            assert_eq!(answer.cluster_authorized_operations, operations);
        }
    }
    for (endpoint_type, code) in [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (3, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)] {
        let answer = served.ask(1, DescribeClusterRequest { endpoint_type, ..Default::default() }).await;
        assert_eq!((answer.error_code, answer.brokers.len()), (code, 0));
    }
}
