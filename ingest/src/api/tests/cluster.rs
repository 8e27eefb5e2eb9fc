use chronik_wire::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};

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

#[tokio::test]
async fn a_client_is_told_the_address_of_the_listener_that_it_came_in_by() {
    let served = Served::start().await;
    for (listener, host, port) in [(0, "broker.test", 9092), (1, "fd00::1", 9094)] {
        let address = (host.to_owned(), port);
        for version in MetadataRequest::VERSIONS {
            let told = served.ask_by(listener, version, &MetadataRequest::default()).await;
            let brokers: Vec<_> = told.brokers.into_iter().map(|broker| (broker.host, broker.port)).collect();
            assert_eq!(brokers, std::slice::from_ref(&address), "Metadata {version}");
        }
        for version in DescribeClusterRequest::VERSIONS {
            let told = served.ask_by(listener, version, &DescribeClusterRequest::default()).await;
            let brokers: Vec<_> = told.brokers.into_iter().map(|broker| (broker.host, broker.port)).collect();
            assert_eq!(brokers, std::slice::from_ref(&address), "DescribeCluster {version}");
        }
        for version in FindCoordinatorRequest::VERSIONS {
            let asked = FindCoordinatorRequest {
                key: if version < 4 { "g".into() } else { String::new() },
                coordinator_keys: if version < 4 { vec![] } else { vec!["g".into()] },
                ..Default::default()
            };
            let told = served.ask_by(listener, version, &asked).await;
            let found = told.coordinators.into_iter().next().map(|found| (found.host, found.port));
            let told = found.unwrap_or((told.host, told.port));
            assert_eq!(told, address, "FindCoordinator {version}");
        }
    }
}
