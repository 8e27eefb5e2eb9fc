//! Any bytes on a connection leave the server serving.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use chronik_net::{ApiHandler, ApiRow, ApiTable, KafkaServer, NetLimits, RequestOutcome};
use chronik_wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, Message, MetadataRequest, MetadataResponse, frame,
};
use futures::FutureExt;
use futures::future::ready;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const METADATA: ApiHandler<()> = |_, request| {
    let outcome = match request.decode::<MetadataRequest>() {
        Ok(_) => RequestOutcome::answer(&MetadataResponse::default(), request.version()),
        Err(error) => error.into(),
    };
    ready(outcome).boxed()
};

/// Sends bytes, then nothing more, and reads until the server closes.
async fn send(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before all is sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[test]
fn any_bytes_leave_the_server_serving() {
    let runtime = Runtime::new().unwrap();
    let cancel = CancellationToken::new();
    let (address, stats) = runtime.block_on(async {
        let mut server = KafkaServer::new(NetLimits::default());
        let bound = (server.listen("127.0.0.1:0").await.unwrap(), server.stats());
        let rows = [ApiRow::new(ApiKey::Metadata, MetadataRequest::VERSIONS, METADATA)];
        tokio::spawn(server.serve(Arc::new(ApiTable::new(Arc::new(()), rows)), cancel.clone()));
        bound
    });
    let ask = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let asked = frame::request(5, None, 4, &ask).concat();

    proptest!(ProptestConfig::with_cases(200), |(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        framed in any::<bool>(),
        key in prop::sample::select(vec![0u8, 3, 18]),
    )| {
        let mut sent = bytes;
        if framed && sent.len() >= 4 {
            let length = (sent.len() as i32).to_be_bytes();
            let version = sent[3] % 14;
            sent[..4].copy_from_slice(&[0, key, 0, version]);
            sent.splice(0..0, length);
        }
        runtime.block_on(send(address, &sent));
        let answer = runtime.block_on(send(address, &asked));
        let (id, versions) = frame::decode_response::<ApiVersionsResponse>(answer[4..].to_vec().into(), 4).unwrap();
        prop_assert_eq!((id, versions.api_keys.len()), (5, 2));
    });
    assert_eq!(stats.panics.load(std::sync::atomic::Ordering::Relaxed), 0);
    cancel.cancel();
}
