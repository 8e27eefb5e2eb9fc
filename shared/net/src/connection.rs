//! One connection, from accept to close.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client_place::ClientPlace;
use crate::close_reason::CloseReason;
use crate::reader::RequestReader;
use crate::server_context::ServerContext;
use crate::stats::count;
use crate::writer::AnswerWriter;
use crate::{AnswerDelivery, KafkaService};

/// Serves one connection to its end, and logs why it ended.
pub async fn serve<S: KafkaService>(
    stream: TcpStream,
    client: ClientPlace,
    service: Arc<S>,
    shared: Arc<ServerContext>,
    cancel: CancellationToken,
) {
    let peer = client.peer;
    let end = run(stream, client, service, &shared, cancel).await;
    if end.is_fault() {
        count(&shared.stats.connections_faulty, 1);
        tracing::info!(%peer, reason = %end, "connection closed");
    } else {
        tracing::debug!(%peer, reason = %end, "connection closed");
    }
}

async fn run<S: KafkaService>(
    mut stream: TcpStream,
    client: ClientPlace,
    service: Arc<S>,
    shared: &Arc<ServerContext>,
    cancel: CancellationToken,
) -> CloseReason {
    if let Err(error) = stream.set_nodelay(true) {
        return error.into();
    }
    let (read, write) = stream.split();
    // One request at a time goes across: what is bounded is the writer's queue.
    let (requests, pending) = mpsc::channel(1);
    let in_progress = AtomicUsize::new(0);
    let delivery = Arc::<AnswerDelivery>::default();
    let reader = RequestReader::new(read, client, delivery.clone(), service, shared.clone(), requests, &in_progress);
    let writer = AnswerWriter::new(write, delivery, shared, pending, &in_progress);

    let deadline = async {
        cancel.cancelled().await;
        tokio::time::sleep(shared.limits.drain_timeout).await;
    };
    let served = async {
        let writing = writer.run();
        tokio::pin!(writing);
        tokio::select! {
            Err(end) = &mut writing => end,
            end = reader.run(&cancel) => match end {
                CloseReason::Io(_) => end,
                _ => match timeout(shared.limits.drain_timeout, writing).await {
                    Ok(Ok(())) => end,
                    Ok(Err(refused)) => refused,
                    Err(_) => CloseReason::Drain,
                },
            },
        }
    };
    tokio::select! {
        end = served => end,
        () = deadline => CloseReason::Drain,
    }
}
