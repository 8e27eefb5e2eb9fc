//! One connection: requests out, answers in, one after the other.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_wire::{ApiVersionsRequest, ApiVersionsResponse, ErrorCode, RequestMessage, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::KafkaError;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Longer than any broker waits on our behalf.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// What Kafka allows a frame by default.
const FRAME_BYTES_MAX: usize = 100 << 20;
const CLIENT_ID: &str = "chronik";

/// An open connection to one broker.
#[derive(Debug)]
pub struct BrokerConnection {
    address: String,
    stream: TcpStream,
    /// API number → versions that the broker serves.
    versions: HashMap<i16, (i16, i16)>,
    last_correlation_id: i32,
}

impl BrokerConnection {
    /// Connects and asks what the broker serves.
    pub async fn open(address: &str) -> Result<Self, KafkaError> {
        let unreachable = |source| KafkaError::Unreachable { address: address.to_owned(), source };
        let stream = timeout(CONNECT_TIME_MAX, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut connection =
            Self { address: address.to_owned(), stream, versions: HashMap::new(), last_correlation_id: 0 };
        // Version 0 is understood by every broker.
        let served: ApiVersionsResponse =
            connection.exchange(0, &ApiVersionsRequest::default(), ANSWER_TIME_MAX).await?;
        KafkaError::check(served.error_code, None, || "the list of API versions".to_owned())?;
        connection.versions =
            served.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// Asks in the highest of `versions` that the broker knows. They are among those of the table.
    pub async fn call<R: RequestMessage>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        self.call_within(versions, request, ANSWER_TIME_MAX).await
    }

    /// The same for an answer that may take longer.
    pub async fn call_within<R: RequestMessage>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
        time_max: Duration,
    ) -> Result<R::Response, KafkaError> {
        let (lowest, highest) = self.versions.get(&R::API.key()).copied().unwrap_or((0, -1));
        let version = highest.min(*versions.end());
        if version < lowest.max(*versions.start()) {
            return Err(KafkaError::Unsupported { address: self.address.clone(), api: R::API });
        }
        self.exchange(version, request, time_max).await
    }

    async fn exchange<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
        time_max: Duration,
    ) -> Result<R::Response, KafkaError> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1);
        let chunks = frame::request(self.last_correlation_id, Some(CLIENT_ID), version, request);
        let answer = timeout(time_max, self.round_trip(chunks))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| KafkaError::Broken { address: self.address.clone(), api: R::API, source })?;
        let (_, answer) = frame::decode_response::<R::Response>(answer, version)
            .map_err(|source| KafkaError::Garbled { address: self.address.clone(), api: R::API, source })?;
        Ok(answer)
    }

    async fn round_trip(&mut self, chunks: Vec<Bytes>) -> io::Result<Bytes> {
        for chunk in chunks {
            self.stream.write_all(&chunk).await?;
        }
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= FRAME_BYTES_MAX)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")))?;
        let mut body = BytesMut::with_capacity(length.min(1 << 20));
        let mut rest = (&mut self.stream).take(length as u64);
        while body.len() < length {
            if rest.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body.freeze())
    }
}

/// Whether asking again may help.
pub fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
    )
}
