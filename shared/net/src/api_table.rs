//! One row an API: dispatch and the answer to ApiVersions come from the same table, so that what is advertised
//! is what works.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chronik_wire::{ApiKey, ApiVersion, ApiVersionsRequest, ApiVersionsResponse, ErrorCode, Message};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::{KafkaRequest, KafkaService, RequestOutcome};

/// Answers one API's requests, of the versions that its row serves. `C` is what the service's handlers share.
pub type ApiHandler<C> = fn(&Arc<C>, KafkaRequest) -> BoxFuture<'static, RequestOutcome>;

/// A row of the table.
pub struct ApiRow<C> {
    key: ApiKey,
    served: RangeInclusive<i16>,
    handler: ApiHandler<C>,
}

impl<C> ApiRow<C> {
    /// The API of a request in the versions that its table has, which are also those advertised.
    pub fn of<R: chronik_wire::RequestMessage>(handler: ApiHandler<C>) -> Self {
        Self::new(R::API, R::VERSIONS, handler)
    }

    /// `key` in the versions `served`, which are also those advertised.
    pub fn new(key: ApiKey, served: RangeInclusive<i16>, handler: ApiHandler<C>) -> Self {
        Self { key, served, handler }
    }
}

/// A service made of handlers. It answers ApiVersions itself and closes the connection of a client that asks
/// for what is not in the table.
pub struct ApiTable<C> {
    context: Arc<C>,
    rows: BTreeMap<ApiKey, ApiRow<C>>,
    advertised: Vec<ApiVersion>,
}

impl<C> ApiTable<C> {
    /// A table of these rows and one for ApiVersions.
    pub fn new(context: Arc<C>, rows: impl IntoIterator<Item = ApiRow<C>>) -> Self {
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row)).collect();
        let mut advertised: Vec<_> = rows.values().map(|row| advertise(row.key, &row.served)).collect();
        advertised.push(advertise(ApiKey::ApiVersions, &ApiVersionsRequest::VERSIONS));
        advertised.sort_by_key(|api| api.api_key);
        Self { context, rows, advertised }
    }

    fn api_versions(&self, request: &KafkaRequest) -> RequestOutcome {
        let version = request.version();
        if !ApiVersionsRequest::VERSIONS.contains(&version) {
            return self.api_versions_unsupported();
        }
        let asked = match request.decode::<ApiVersionsRequest>() {
            Ok(asked) => asked,
            Err(error) => return error.into(),
        };
        let ApiVersionsRequest { client_software_name, client_software_version } = &asked;
        if version >= 3 && !(is_software_name(client_software_name) && is_software_name(client_software_version)) {
            let refused = ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() };
            return RequestOutcome::answer(&refused, version);
        }
        tracing::debug!(peer = %request.peer, client_software_name, client_software_version, "client");
        let answer = ApiVersionsResponse { api_keys: self.advertised.clone(), ..Default::default() };
        RequestOutcome::answer(&answer, version)
    }

    /// In version 0, which every client reads, with the versions that it can ask again with.
    fn api_versions_unsupported(&self) -> RequestOutcome {
        let own = self.advertised.iter().filter(|api| api.api_key == ApiKey::ApiVersions.key());
        let answer = ApiVersionsResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            api_keys: own.cloned().collect(),
            ..Default::default()
        };
        RequestOutcome::answer(&answer, 0)
    }
}

impl<C: Send + Sync + 'static> KafkaService for ApiTable<C> {
    fn call(&self, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
        if request.api == ApiKey::ApiVersions {
            return ready(self.api_versions(&request)).boxed();
        }
        match self.rows.get(&request.api) {
            Some(row) if row.served.contains(&request.version()) => (row.handler)(&self.context, request),
            _ => {
                let (api, version, client) = (request.api, request.version(), &request.header.client_id);
                ready(RequestOutcome::close(format!("{api} v{version} is not served, client {client:?}"))).boxed()
            }
        }
    }
}

fn advertise(key: ApiKey, served: &RangeInclusive<i16>) -> ApiVersion {
    ApiVersion { api_key: key.key(), min_version: *served.start(), max_version: *served.end() }
}

/// Letters and digits, within them also `-` and `.` (KIP-511).
fn is_software_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use bytes::Bytes;
    use chronik_wire::{MetadataRequest, RequestHeader};

    use super::*;

    fn table() -> ApiTable<()> {
        let answer: ApiHandler<()> = |_, _| ready(RequestOutcome::Answer(vec![])).boxed();
        let rows = [
            ApiRow::new(ApiKey::Metadata, MetadataRequest::VERSIONS, answer),
            ApiRow::new(ApiKey::Produce, 3..=11, answer),
        ];
        ApiTable::new(Arc::new(()), rows)
    }

    fn call(api: ApiKey, version: i16, body: Vec<Bytes>) -> RequestOutcome {
        let header = RequestHeader { api_key: api.key(), api_version: version, correlation_id: 1, client_id: None };
        let peer = ([127, 0, 0, 1], 9).into();
        let request = KafkaRequest {
            api,
            header,
            body: body.concat().into(),
            frame_bytes: 0,
            peer,
            listener: 0,
            delivery: Default::default(),
        };
        table().call(request).now_or_never().unwrap()
    }

    fn api_versions(asked: i16, answered: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
        let body = request.encode(asked.clamp(0, 4));
        let RequestOutcome::Answer(body) = call(ApiKey::ApiVersions, asked, body) else { panic!("no answer") };
        ApiVersionsResponse::decode(body.concat().into(), answered).unwrap()
    }

    fn named(name: &str) -> ApiVersionsRequest {
        ApiVersionsRequest { client_software_name: name.into(), client_software_version: "2.0.1".into() }
    }

    #[test]
    fn what_the_table_has_is_advertised_in_every_version() {
        for version in ApiVersionsRequest::VERSIONS {
            let answer = api_versions(version, version, &named("apache-kafka-java"));
            let ranges: Vec<_> =
                answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!(ranges, [(0, 3, 11), (3, 0, 12), (18, 0, 4)]);
        }
    }

    #[test]
    fn an_unknown_version_of_api_versions_is_answered_in_version_0_with_the_true_range() {
        for version in [5, 99, i16::MAX, -1] {
            let answer = api_versions(version, 0, &named("x"));
            assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION);
            let own = ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
            assert_eq!(answer.api_keys, [own]);
        }
    }

    #[test]
    fn a_client_must_name_itself_as_kip_511_says() {
        for (name, code) in [
            ("librdkafka", ErrorCode::NONE),
            ("a", ErrorCode::NONE),
            ("a.b-c", ErrorCode::NONE),
            ("", ErrorCode::INVALID_REQUEST),
            ("-a", ErrorCode::INVALID_REQUEST),
            ("a b", ErrorCode::INVALID_REQUEST),
            ("a.", ErrorCode::INVALID_REQUEST),
        ] {
            assert_eq!(api_versions(3, 3, &named(name)).error_code, code, "{name:?}");
        }
    }

    #[test]
    fn what_is_not_served_closes_the_connection() {
        for (api, version) in
            [(ApiKey::Produce, 2), (ApiKey::Produce, 12), (ApiKey::Metadata, 13), (ApiKey::Heartbeat, 0)]
        {
            assert!(matches!(call(api, version, vec![]), RequestOutcome::Close { .. }), "{api} v{version}");
        }
        assert!(matches!(call(ApiKey::Produce, 3, vec![]), RequestOutcome::Answer(_)));
    }
}
