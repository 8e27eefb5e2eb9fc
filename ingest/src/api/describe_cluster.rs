//! DescribeCluster (60): the cluster's id and its one broker.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};
use futures::future::{BoxFuture, ready};

use super::error::ApiError;
use super::metadata::CLUSTER_OPERATIONS;
use super::{BROKER_ID, BrokerContext, answer};
use crate::listener::Address;

/// Kafka's numbers for endpoints of brokers and of controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, address) = (broker.clone(), broker.advertised_to(&request));
    answer(&request, move |asked| ready(describe(&broker, address, &asked)))
}

fn describe(
    broker: &BrokerContext,
    Address { host, port }: Address,
    asked: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = match asked.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(ApiError::ControllerEndpoint),
        endpoint_type => Some(ApiError::EndpointType { endpoint_type }),
    };
    if let Some(error) = refused {
        let (error_code, error_message) = (error.code(), Some(error.to_string()));
        return DescribeClusterResponse { error_code, error_message, ..Default::default() };
    }
    let mut described = DescribeClusterResponse {
        cluster_id: broker.cluster.to_string(),
        controller_id: BROKER_ID,
        brokers: vec![DescribeClusterBroker { broker_id: BROKER_ID, host, port: port.into(), rack: None }],
        ..Default::default()
    };
    if asked.include_cluster_authorized_operations {
        described.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    described
}
