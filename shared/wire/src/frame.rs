//! The headers, and whole frames for a client.
//!
//! A request is `length i32 | api key i16 | version i16 | correlation id i32 | client id | [tagged fields] | body`,
//! a response `length i32 | correlation id i32 | [tagged fields] | body`. The client id has a 16-bit length in
//! every version. Which versions have tagged fields: [`ApiKey::request_header_version`] and its neighbour.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::ApiKey;
use crate::cursor::{BodyCursor, DecodeError};
use crate::field::{FieldContext, WireField};
use crate::schema::{Message, RequestMessage};
use crate::sink::Sink;

/// What every request begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number, known to us or not.
    pub api_key: i16,
    /// The version of header and body.
    pub api_version: i16,
    /// The answer carries it back.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

const LEGACY: FieldContext = FieldContext { version: 0, flexible: false, nullable: true };

impl RequestHeader {
    /// Takes the header off a frame (without its length), so that the body is left.
    ///
    /// Of an API that is not in the table only the first eight bytes are sure.
    pub fn decode(frame: &mut Bytes) -> Result<Self, DecodeError> {
        let mut input = BodyCursor::new(std::mem::take(frame));
        let api_key = i16::read(&mut input, LEGACY)?;
        let api_version = i16::read(&mut input, LEGACY)?;
        let correlation_id = i32::read(&mut input, LEGACY)?;
        let client_id = match ApiKey::from_key(api_key) {
            None => Option::<String>::read(&mut input, LEGACY).ok().flatten(),
            Some(api) => {
                let client_id = Option::<String>::read(&mut input, LEGACY)?;
                if api.request_header_version(api_version) >= 2 {
                    skip_tagged_fields(&mut input)?;
                }
                client_id
            }
        };
        *frame = input.into_rest();
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// The API, if the table knows it.
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_key(self.api_key)
    }
}

/// A whole request, with its length, as chunks for a vectored write.
pub fn request<R: RequestMessage>(correlation_id: i32, client_id: Option<&str>, version: i16, body: &R) -> Vec<Bytes> {
    let mut head = Head(BytesMut::with_capacity(32));
    R::API.key().write(&mut head, LEGACY);
    version.write(&mut head, LEGACY);
    correlation_id.write(&mut head, LEGACY);
    client_id.map(str::to_owned).write(&mut head, LEGACY);
    if R::API.request_header_version(version) >= 2 {
        head.uvarint(0);
    }
    with_length(head.0, body.encode(version))
}

/// A whole response, with its length: `body` is what [`Message::encode`] gave for `api` and `version`.
pub fn response(api: ApiKey, version: i16, correlation_id: i32, body: Vec<Bytes>) -> Vec<Bytes> {
    let mut head = Head(BytesMut::with_capacity(5));
    correlation_id.write(&mut head, LEGACY);
    if api.response_header_version(version) >= 1 {
        head.uvarint(0);
    }
    with_length(head.0, body)
}

/// Reads a response's frame (without its length): the correlation id and the body.
pub fn decode_response<M: Message>(frame: Bytes, version: i16) -> Result<(i32, M), DecodeError> {
    let mut input = BodyCursor::new(frame);
    let correlation_id = i32::read(&mut input, LEGACY)?;
    if M::API.response_header_version(version) >= 1 {
        skip_tagged_fields(&mut input)?;
    }
    Ok((correlation_id, M::decode(input.into_rest(), version)?))
}

fn skip_tagged_fields(input: &mut BodyCursor) -> Result<(), DecodeError> {
    for _ in 0..input.uvarint()? {
        input.uvarint()?;
        let length = input.uvarint()? as usize;
        input.take(length)?;
    }
    Ok(())
}

fn with_length(head: BytesMut, body: Vec<Bytes>) -> Vec<Bytes> {
    let length = head.len() + body.iter().map(Bytes::len).sum::<usize>();
    let mut first = BytesMut::with_capacity(4 + head.len());
    // Both ends refuse a frame of more than 100 MiB; one that does not even fit the field must not look short.
    first.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    first.put_slice(&head);
    let mut frame = Vec::with_capacity(1 + body.len());
    frame.push(first.freeze());
    frame.extend(body);
    frame
}

/// A header under construction.
struct Head(BytesMut);

impl Sink for Head {
    fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    fn splice(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse};

    fn joined(frame: Vec<Bytes>) -> Bytes {
        let bytes = frame.concat();
        assert_eq!(bytes.len(), 4 + i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize);
        Bytes::from(bytes).slice(4..)
    }

    #[test]
    fn a_request_comes_back_with_its_header() {
        for version in MetadataRequest::VERSIONS {
            for client_id in [None, Some(""), Some("client-7")] {
                let mut frame = joined(request(77, client_id, version, &MetadataRequest::default()));
                let header = RequestHeader::decode(&mut frame).unwrap();
                assert_eq!(header.api(), Some(ApiKey::Metadata));
                assert_eq!((header.api_version, header.correlation_id), (version, 77));
                assert_eq!(header.client_id.as_deref(), client_id);
                assert_eq!(MetadataRequest::decode(frame, version).unwrap(), MetadataRequest::default());
            }
        }
    }

    #[test]
    fn a_response_comes_back_with_its_correlation_id() {
        for version in MetadataResponse::VERSIONS {
            let body = MetadataResponse::default();
            let frame = joined(response(ApiKey::Metadata, version, -5, body.encode(version)));
            assert_eq!(decode_response::<MetadataResponse>(frame, version).unwrap(), (-5, body));
        }
    }

    #[test]
    fn the_answer_to_api_versions_has_no_tags_in_its_header() {
        let body = ApiVersionsResponse::default();
        let frame = joined(response(ApiKey::ApiVersions, 4, 1, body.encode(4)));
        assert_eq!(frame.len(), 4 + body.encoded_len(4));
    }

    #[test]
    fn a_header_of_an_unknown_api_keeps_what_is_sure() {
        let mut frame = Bytes::from_static(&[0x7f, 0xff, 0, 3, 0, 0, 0, 9, 0x70, 0, 1]);
        let header = RequestHeader::decode(&mut frame).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (0x7fff, 3, 9));
        assert_eq!((header.api(), header.client_id), (None, None));
    }

    #[test]
    fn unknown_tags_in_a_header_are_skipped() {
        let mut frame = Bytes::from(joined(request(1, None, 3, &ApiVersionsRequest::default())).to_vec());
        let mut tagged = frame.split_to(10).to_vec();
        tagged.extend([2, 5, 1, 0xaa, 9, 2, 0xbb, 0xcc]);
        tagged.extend(&frame[1..]);
        let mut frame = Bytes::from(tagged);
        RequestHeader::decode(&mut frame).unwrap();
        assert_eq!(ApiVersionsRequest::decode(frame, 3).unwrap(), ApiVersionsRequest::default());
    }
}
