//! A server on a real socket, its service in the test's hands: each request arrives with the sender of its outcome.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use chronik_net::{KafkaRequest, KafkaServer, KafkaService, NetLimits, NetStats, RequestOutcome};
use chronik_wire::{ApiKey, MetadataRequest, MetadataResponse, frame};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Correlation ids that make the service panic, in `call` or in what it returns.
const PANIC_IN_CALL: i32 = -10;
const PANIC_IN_FUTURE: i32 = -11;

struct ByHand(mpsc::UnboundedSender<Arrival>);

struct Arrival {
    request: KafkaRequest,
    outcome: oneshot::Sender<RequestOutcome>,
}

impl Arrival {
    fn id(&self) -> i32 {
        self.request.header.correlation_id
    }

    /// An answer of `bytes` bytes.
    fn answer(self, bytes: usize) {
        let _ = self.outcome.send(RequestOutcome::Answer(vec![Bytes::from(vec![self.request.body[0]; bytes])]));
    }
}

impl KafkaService for ByHand {
    fn call(&self, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
        match request.header.correlation_id {
            PANIC_IN_CALL => panic!("in call"),
            PANIC_IN_FUTURE => async { panic!("in the future") }.boxed(),
            _ => {
                let (outcome, decided) = oneshot::channel();
                let _ = self.0.send(Arrival { request, outcome });
                decided.map(|outcome| outcome.unwrap_or_else(|_| RequestOutcome::close("left alone"))).boxed()
            }
        }
    }
}

struct Harness {
    /// Of its listeners.
    addresses: Vec<SocketAddr>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    stats: Arc<NetStats>,
    cancel: CancellationToken,
    serving: JoinHandle<()>,
}

impl Harness {
    async fn start(limits: NetLimits) -> Self {
        Self::listening(1, limits).await
    }

    async fn listening(listeners: usize, limits: NetLimits) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let mut server = KafkaServer::new(limits);
        let mut addresses = vec![];
        for _ in 0..listeners {
            addresses.push(server.listen("127.0.0.1:0").await.unwrap());
        }
        let stats = server.stats();
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(server.serve(Arc::new(ByHand(arrived)), cancel.clone()));
        Self { addresses, arrivals, stats, cancel, serving }
    }

    async fn connect(&self) -> Client {
        self.connect_by(0).await
    }

    async fn connect_by(&self, listener: usize) -> Client {
        Client(TcpStream::connect(self.addresses[listener]).await.unwrap())
    }

    async fn arrival(&mut self) -> Arrival {
        self.arrivals.recv().await.unwrap()
    }

    /// Ends the server; what is left shows what the connections did until then.
    async fn stop(mut self) -> Arc<NetStats> {
        self.cancel.cancel();
        self.serving.await.unwrap();
        assert!(self.arrivals.try_recv().is_err(), "a request was left");
        assert_eq!(self.stats.connections_open.load(Relaxed), 0);
        assert_eq!(self.stats.in_flight_bytes.load(Relaxed), 0);
        self.stats
    }
}

struct Client(TcpStream);

fn request(id: i32) -> Vec<u8> {
    frame::request(id, Some("test"), 1, &MetadataRequest::default()).concat()
}

/// A request that is no Metadata request but for its header, as a service need not look at its body.
fn large_request(id: i32, bytes: usize) -> Vec<u8> {
    let mut frame = request(id);
    frame.resize(4 + bytes, 0);
    frame[..4].copy_from_slice(&(bytes as i32).to_be_bytes());
    frame
}

impl Client {
    async fn send(&mut self, frames: &[u8]) {
        self.0.write_all(frames).await.unwrap();
    }

    /// The correlation id of the next answer, and the length of its body.
    async fn answer(&mut self) -> (i32, usize) {
        let length = self.0.read_i32().await.unwrap();
        let mut frame = vec![0; length as usize];
        self.0.read_exact(&mut frame).await.unwrap();
        (i32::from_be_bytes(frame[..4].try_into().unwrap()), frame.len() - 4)
    }

    /// Whether the server closed the connection without another byte.
    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }

    /// A request and its answer.
    async fn round_trip(&mut self, server: &mut Harness, id: i32) {
        self.send(&request(id)).await;
        server.arrival().await.answer(3);
        assert_eq!(self.answer().await, (id, 3));
    }
}

#[tokio::test]
async fn requests_overlap_and_answers_keep_their_order() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&[request(1), request(2), request(3)].concat()).await;
    let (one, two, three) = (server.arrival().await, server.arrival().await, server.arrival().await);
    assert_eq!((one.id(), two.id(), three.id()), (1, 2, 3));
    three.answer(30);
    two.answer(20);
    one.answer(10);
    for id in 1..=3 {
        assert_eq!(client.answer().await, (id, 10 * id as usize));
    }
    let stats = server.stop().await;
    assert_eq!(stats.requests.load(Relaxed), 3);
    assert_eq!(stats.bytes_read.load(Relaxed), 3 * request(1).len() as u64);
    assert_eq!(stats.bytes_written.load(Relaxed), 3 * 8 + 60);
}

#[tokio::test]
async fn a_request_is_handed_over_as_it_came() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&request(7)).await;
    let arrival = server.arrival().await;
    assert_eq!((arrival.request.api, arrival.request.version()), (ApiKey::Metadata, 1));
    assert_eq!(arrival.request.header.client_id.as_deref(), Some("test"));
    assert_eq!(arrival.request.frame_bytes, request(7).len() - 4);
    assert_eq!(arrival.request.peer, client.0.local_addr().unwrap());
    assert_eq!(arrival.request.decode::<MetadataRequest>().unwrap(), MetadataRequest::default());
    let body = MetadataResponse { controller_id: 1, ..Default::default() };
    arrival.outcome.send(RequestOutcome::answer(&body, 1)).unwrap();
    let mut frame = vec![0; client.0.read_i32().await.unwrap() as usize];
    client.0.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame::decode_response(frame.into(), 1).unwrap(), (7, body));
    server.stop().await;
}

#[tokio::test]
async fn a_request_without_answer_leaves_no_bytes() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&[request(1), request(2)].concat()).await;
    server.arrival().await.outcome.send(RequestOutcome::NoAnswer).unwrap();
    server.arrival().await.answer(5);
    assert_eq!(client.answer().await, (2, 5));
    server.stop().await;
}

#[tokio::test]
async fn close_comes_after_the_answers_before_it() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&[request(1), request(2)].concat()).await;
    let (one, two) = (server.arrival().await, server.arrival().await);
    two.outcome.send(RequestOutcome::close("enough")).unwrap();
    one.answer(5);
    assert_eq!(client.answer().await, (1, 5));
    assert!(client.is_closed().await);
    assert_eq!(server.stop().await.connections_faulty.load(Relaxed), 1);
}

#[tokio::test]
async fn a_frame_in_single_bytes_is_one_request() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.0.set_nodelay(true).unwrap();
    for byte in request(9) {
        client.send(&[byte]).await;
    }
    server.arrival().await.answer(1);
    assert_eq!(client.answer().await, (9, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_closed_within_a_frame_is_no_request() {
    let server = Harness::start(NetLimits::default()).await;
    for end in [2, 4, 10, request(1).len() - 1] {
        let mut client = server.connect().await;
        client.send(&request(1)[..end]).await;
        client.0.shutdown().await.unwrap();
        assert!(client.is_closed().await);
    }
    assert_eq!(server.stop().await.requests.load(Relaxed), 0);
}

#[tokio::test]
async fn a_client_that_only_stops_sending_gets_its_answers() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&request(1)).await;
    client.0.shutdown().await.unwrap();
    server.arrival().await.answer(4);
    assert_eq!(client.answer().await, (1, 4));
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn frames_of_impossible_length_and_garbage_close_the_connection() {
    let mut server = Harness::start(NetLimits { frame_bytes_max: 1000, ..NetLimits::default() }).await;
    let garbage: [&[u8]; 6] = [
        &1001i32.to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &0i32.to_be_bytes(),
        // Two bytes where a header should be; a key that is no API; a client id longer than the frame.
        &[0, 0, 0, 2, 0, 3],
        &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    for bytes in garbage {
        let mut client = server.connect().await;
        client.send(bytes).await;
        assert!(client.is_closed().await, "{bytes:x?}");
    }
    server.connect().await.round_trip(&mut server, 1).await;
    let stats = server.stop().await;
    assert_eq!((stats.requests.load(Relaxed), stats.connections_faulty.load(Relaxed)), (1, 6));
}

#[tokio::test]
async fn the_largest_frame_allowed_is_read() {
    let mut server = Harness::start(NetLimits { frame_bytes_max: 5 << 20, ..NetLimits::default() }).await;
    let mut client = server.connect().await;
    client.send(&large_request(1, 5 << 20)).await;
    let arrival = server.arrival().await;
    assert_eq!(arrival.request.frame_bytes, 5 << 20);
    arrival.answer(1);
    assert_eq!(client.answer().await, (1, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut neighbour = server.connect().await;
    for panic in [PANIC_IN_CALL, PANIC_IN_FUTURE] {
        let mut client = server.connect().await;
        client.send(&[request(1), request(panic)].concat()).await;
        server.arrival().await.answer(2);
        assert_eq!(client.answer().await, (1, 2), "what came before the panic is answered");
        assert!(client.is_closed().await);
        neighbour.round_trip(&mut server, 5).await;
    }
    assert_eq!(server.stop().await.panics.load(Relaxed), 2);
}

#[tokio::test]
async fn bytes_in_flight_stay_below_their_limit() {
    const LIMIT: usize = 1 << 20;
    const CLIENTS: i32 = 12;
    let mut server = Harness::start(NetLimits { in_flight_bytes_max: LIMIT, ..NetLimits::default() }).await;
    let mut clients = Vec::new();
    for id in 0..CLIENTS {
        let mut client = server.connect().await;
        clients.push(tokio::spawn(async move {
            client.send(&large_request(id, 200_000)).await;
            client.answer().await
        }));
    }
    let mut held = Vec::new();
    for number in 0..CLIENTS {
        // Five fit, and one may be read beyond that.
        if number >= 5 {
            let oldest: Arrival = held.remove(0);
            oldest.answer(1);
        }
        held.push(server.arrival().await);
        let most = (LIMIT + 200_000 + CLIENTS as usize * (16 << 10)) as u64;
        assert!(server.stats.in_flight_bytes.load(Relaxed) <= most);
    }
    held.into_iter().for_each(|arrival| arrival.answer(1));
    for (id, client) in clients.into_iter().enumerate() {
        assert_eq!(client.await.unwrap(), (id as i32, 1));
    }
    server.stop().await;
}

#[tokio::test]
async fn frames_larger_than_the_limit_in_flight_go_one_by_one_and_do_not_hold_up_small_ones() {
    let mut server = Harness::start(NetLimits { in_flight_bytes_max: 1000, ..NetLimits::default() }).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.send(&large_request(1, 50_000)).await;
    let large = server.arrival().await;
    second.send(&large_request(2, 50_000)).await;
    server.connect().await.round_trip(&mut server, 3).await;
    assert!(server.arrivals.try_recv().is_err());
    large.answer(1);
    assert_eq!(first.answer().await, (1, 1));
    server.arrival().await.answer(1);
    assert_eq!(second.answer().await, (2, 1));
    server.stop().await;
}

#[tokio::test]
async fn what_is_announced_and_does_not_come_holds_up_no_other_client() {
    const LIMIT: usize = 4 << 20;
    let mut server = Harness::start(NetLimits { in_flight_bytes_max: LIMIT, ..NetLimits::default() }).await;
    let mut silent = Vec::new();
    for bytes in [90 << 20, 30 << 20, 30 << 20, 30 << 20].into_iter().chain([1 << 20; 70]) {
        let mut client = server.connect().await;
        client.send(&large_request(0, bytes as usize)[..5]).await;
        silent.push(client);
    }
    let mut client = server.connect().await;
    for id in 1..5 {
        client.send(&large_request(id, 1 << 20)).await;
        server.arrival().await.answer(1);
        assert_eq!(client.answer().await, (id, 1));
    }
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_drips_closes_its_connection() {
    let mut server = Harness::start(NetLimits {
        stall_timeout: Duration::from_millis(300),
        frame_rate_min: 10 << 20,
        ..NetLimits::default()
    })
    .await;
    let mut client = server.connect().await;
    client.send(&(1_000_000i32).to_be_bytes()).await;
    // Each byte comes soon enough, and all of them would take days.
    let dripping = async {
        while client.0.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dripping).await.expect("it is closed");
    server.connect().await.round_trip(&mut server, 1).await;
    assert_eq!(server.stop().await.connections_faulty.load(Relaxed), 1);
}

#[tokio::test]
async fn a_connection_has_only_so_many_requests_in_progress() {
    let limits = NetLimits { connection_requests_max: 4, ..NetLimits::default() };
    let mut server = Harness::start(limits).await;
    let mut client = server.connect().await;
    let requests: Vec<u8> = (0..100).flat_map(request).collect();
    client.send(&requests).await;
    let mut held = VecDeque::new();
    for id in 0..100 {
        if held.is_empty() {
            held.push_back(server.arrival().await);
        }
        while let Ok(arrival) = server.arrivals.try_recv() {
            held.push_back(arrival);
        }
        // Four are in progress, one waits between the halves, one is in the reader's hand.
        assert!(held.len() <= 6, "{} requests in progress", held.len());
        held.pop_front().unwrap().answer(1);
        assert_eq!(client.answer().await, (id, 1));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything_in_the_end() {
    let limits = NetLimits { connection_requests_max: 3, ..NetLimits::default() };
    let mut server = Harness::start(limits).await;
    let mut client = server.connect().await;
    client.send(&(0..40).flat_map(request).collect::<Vec<_>>()).await;
    let stats = server.stats.clone();
    let answering = tokio::spawn(async move {
        for _ in 0..40 {
            server.arrival().await.answer(1 << 20);
        }
        server
    });
    for id in 0..40 {
        assert_eq!(client.answer().await, (id, 1 << 20));
        // What arrived is what was read here, what is in progress, and what sockets hold of sent answers.
        let socket_bytes = stats.bytes_written.load(Relaxed).saturating_sub((id as u64 + 1) << 20);
        let arrived = stats.requests.load(Relaxed);
        assert!(arrived <= id as u64 + 1 + 5 + socket_bytes.div_ceil(1 << 20) + 1, "{arrived} arrived at {id}");
    }
    answering.await.unwrap().stop().await;
}

#[tokio::test]
async fn a_crowd_connects_before_the_first_of_them_is_accepted() {
    let mut server = KafkaServer::new(NetLimits::default());
    let address = server.listen("127.0.0.1:0").await.unwrap();
    let mut crowd = Vec::new();
    for number in 0..500 {
        let connecting = tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(address));
        crowd.push(connecting.await.unwrap_or_else(|_| panic!("client {number} is put off")).unwrap());
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let mut server = Harness::start(NetLimits { connections_max: 1, ..NetLimits::default() }).await;
    let mut first = server.connect().await;
    first.round_trip(&mut server, 1).await;
    let mut second = server.connect().await;
    assert!(second.is_closed().await);
    first.round_trip(&mut server, 2).await;
    assert_eq!(server.stats.connections_refused.load(Relaxed), 1);

    // The place is free again once the first connection's task has ended.
    first.0.shutdown().await.unwrap();
    assert!(first.is_closed().await);
    loop {
        let mut next = server.connect().await;
        if next.0.write_all(&request(3)).await.is_err() {
            continue;
        }
        let arrival = tokio::select! {
            arrival = server.arrivals.recv() => arrival.unwrap(),
            true = next.is_closed() => continue,
        };
        arrival.answer(3);
        assert_eq!(next.answer().await, (3, 3));
        break;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_says_by_which_listener_it_came() {
    let mut server = Harness::listening(3, NetLimits::default()).await;
    for listener in [2, 0, 1, 1] {
        let mut client = server.connect_by(listener).await;
        client.send(&request(1)).await;
        let arrival = server.arrival().await;
        assert_eq!((arrival.request.listener, arrival.request.peer), (listener, client.0.local_addr().unwrap()));
        arrival.answer(1);
        client.answer().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn listeners_share_the_connections_that_a_server_may_have() {
    let limits = NetLimits { connections_max: 2, ..NetLimits::default() };
    let mut server = Harness::listening(2, limits).await;
    let (mut one, mut other) = (server.connect_by(0).await, server.connect_by(1).await);
    one.round_trip(&mut server, 1).await;
    other.round_trip(&mut server, 2).await;
    for listener in 0..2 {
        assert!(server.connect_by(listener).await.is_closed().await);
    }
    assert_eq!(server.stop().await.connections_refused.load(Relaxed), 2);
}

#[tokio::test]
async fn a_crowd_at_one_listener_does_not_shut_out_who_comes_to_another() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut server = KafkaServer::new(NetLimits { connections_max: 2, ..NetLimits::default() });
    let busy = server.listen("127.0.0.1:0").await.unwrap();
    let quiet = server.listen("127.0.0.1:0").await.unwrap();
    let mut crowd = vec![];
    for _ in 0..8 {
        crowd.push(TcpStream::connect(busy).await.unwrap());
    }
    let mut client = Client(TcpStream::connect(quiet).await.unwrap());
    client.send(&request(1)).await;
    let cancel = CancellationToken::new();
    let serving = tokio::spawn(server.serve(Arc::new(ByHand(arrived)), cancel.clone()));
    let arrival: Arrival = tokio::select! {
        arrival = arrivals.recv() => arrival.unwrap(),
        _ = client.is_closed() => panic!("it was shut out"),
    };
    assert_eq!(arrival.request.listener, 1);
    arrival.answer(1);
    assert_eq!(client.answer().await, (1, 1));
    drop(crowd);
    cancel.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_client_of_both_families_socket_is_named_by_its_own_family() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut server = KafkaServer::new(NetLimits::default());
    let bound = server.listen("[::]:0").await.unwrap();
    let cancel = CancellationToken::new();
    let serving = tokio::spawn(server.serve(Arc::new(ByHand(arrived)), cancel.clone()));
    let mut client = Client(TcpStream::connect(("127.0.0.1", bound.port())).await.unwrap());
    client.send(&request(1)).await;
    let arrival: Arrival = arrivals.recv().await.unwrap();
    assert_eq!(arrival.request.peer, client.0.local_addr().unwrap());
    arrival.answer(1);
    client.answer().await;
    cancel.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_sends_what_is_outstanding() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&request(1)).await;
    let arrival = server.arrival().await;
    server.cancel.cancel();
    arrival.answer(6);
    assert_eq!(client.answer().await, (1, 6));
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_does_not_wait_for_ever() {
    let mut server = Harness::start(NetLimits { drain_timeout: Duration::ZERO, ..NetLimits::default() }).await;
    let mut client = server.connect().await;
    client.send(&request(1)).await;
    let never_answered = server.arrival().await;
    server.stop().await;
    assert!(client.is_closed().await);
    assert!(never_answered.outcome.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_its_answer() {
    let mut server = Harness::start(NetLimits::default()).await;
    let mut idle = server.connect().await;
    let mut waiting = server.connect().await;
    waiting.send(&request(1)).await;
    let arrival = server.arrival().await;
    assert!(idle.is_closed().await);
    arrival.answer(1);
    assert_eq!(waiting.answer().await, (1, 1));
    waiting.round_trip(&mut server, 2).await;
    assert_eq!(server.stop().await.connections_faulty.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_stalls_closes_its_connection() {
    let server = Harness::start(NetLimits::default()).await;
    let mut client = server.connect().await;
    client.send(&request(1)[..9]).await;
    assert!(client.is_closed().await);
    assert_eq!(server.stop().await.connections_faulty.load(Relaxed), 1);
}
