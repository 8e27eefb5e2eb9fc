//! What HTTP clients see.

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, RecordHeader, stamp};
use chronik_query::QueryLimits;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, answer, get, parameters, places};

/// Timestamp, key and value.
type Plain<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

fn batch(base: i64, records: &[Plain<'_>]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for (timestamp, key, value) in records {
        let header = RecordHeader { key: Bytes::from("trace"), value: Some(Bytes::from("ab-1")) };
        builder.push(*timestamp, *key, *value, &[header]);
    }
    let mut bytes = builder.finish().to_vec();
    stamp(&mut bytes, base, 1);
    bytes.into()
}

/// One batch archived, one in the tail.
async fn world() -> World {
    let mut world = World::new();
    let first = batch(0, &[(1_000, Some(b"k"), Some("Der Größte".as_bytes())), (2_000, None, None)]);
    let second = batch(
        2,
        &[(3_000, Some(b"\xff"), Some(b"bytes \xfe and gr\xc3\xb6\xc3\x9fte")), (4_000, Some(b""), Some(b"last"))],
    );
    world.add_topic("t", vec![vec![first, second], vec![]]);
    world.ship(1).await;
    world.archive(0, 0).await;
    world.add_topic("quiet", vec![vec![]]).search_enabled = false;
    world.export(0).await;
    world
}

#[tokio::test]
async fn an_answer_is_as_documented() {
    let service = world().await.service(true);
    let (status, mut document) =
        get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "größte headers.trace:1")])).await;
    assert_eq!(status, 200);
    assert!(document.as_object_mut().unwrap().remove("took_ms").unwrap().is_u64());
    let headers = json!([{"key": "trace", "value": "ab-1"}]);
    assert_eq!(
        document,
        json!({
            "hits": [
                {"topic": "t", "partition": 0, "offset": 2, "timestamp": 3000, "key": {"base64": "/w=="},
                 "value": {"base64": "Ynl0ZXMg/iBhbmQgZ3LDtsOfdGU="}, "headers": headers, "highlights": [[12, 20]]},
                {"topic": "t", "partition": 0, "offset": 0, "timestamp": 1000, "key": "k", "value": "Der Größte",
                 "headers": headers, "highlights": [[4, 12]]},
            ],
            "total": {"value": 2, "relation": "eq"},
            "coverage": [{"topic": "t", "partition": 0, "from": 0, "to": 4}, {"topic": "t", "partition": 1, "from": 0, "to": 0}],
            "not_searched": [],
            "cursor": null,
        })
    );
}

#[tokio::test]
async fn post_and_get_ask_the_same() {
    let service = world().await.service(true);
    let request = Request::post("/v1/search")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"topic":"t","limit":1,"sort":"oldest","from":1001}"#))
        .unwrap();
    let (status, document) = answer(&service, request).await;
    assert_eq!((status.as_u16(), places(&document)), (200, vec![("t".to_owned(), 0, 1)]));
    assert_eq!(document["hits"][0]["key"], Value::Null);
    assert_eq!(document["hits"][0]["value"], Value::Null);
    let cursor = document["cursor"].as_str().unwrap();
    let next =
        parameters([("topic", "t"), ("sort", "oldest"), ("from", "1970-01-01T00:00:01.001Z"), ("cursor", cursor)]);
    let (_, document) = get(&service, "/v1/search", &next).await;
    assert_eq!(places(&document), [("t".to_owned(), 0, 2), ("t".to_owned(), 0, 3)]);
    assert_eq!((&document["total"]["value"], &document["cursor"]), (&json!(3), &Value::Null));
}

#[tokio::test]
async fn a_body_is_declared_as_json() {
    let service = world().await.service(true);
    for (media_type, status) in [
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=utf-8"), 200),
        (Some("application/vnd.chronik+json"), 200),
        (Some("text/plain"), 415),
        (Some("application/xml"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/jsonl"), 415),
        (Some(""), 415),
        (None, 415),
    ] {
        let mut request = Request::post("/v1/search");
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let (found, document) = answer(&service, request.body(Body::from(r#"{"topic":"t"}"#)).unwrap()).await;
        assert_eq!(found.as_u16(), status, "{media_type:?}: {document}");
        assert_eq!(document["code"] == "wrong_media_type", status == 415, "{media_type:?}: {document}");
    }
}

#[tokio::test]
async fn a_search_without_a_limit_only_counts() {
    let service = world().await.service(true);
    let (_, document) = get(&service, "/v1/search", &parameters([("q", "NOT last"), ("limit", "0")])).await;
    assert_eq!((&document["hits"], &document["total"]), (&json!([]), &json!({"value": 3, "relation": "eq"})));
}

#[tokio::test]
async fn what_is_wrong_is_a_problem_with_a_stable_code() {
    let service = world().await.service(true);
    for (list, status, code) in [
        (parameters([("topic", "nope")]), 404, "unknown_topic"),
        (parameters([("topic", "quiet")]), 409, "search_disabled"),
        (parameters([("topic", "t"), ("partition", "9")]), 404, "unknown_partition"),
        (parameters([("limit", "10001")]), 400, "invalid_parameter"),
        (parameters([("q", "a AND")]), 400, "invalid_query"),
        (parameters([("cursor", "x")]), 400, "invalid_cursor"),
    ] {
        let (found, problem) = get(&service, "/v1/search", &list).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
    }
    let (_, problem) = get(&service, "/v1/search", &parameters([("q", "a (b")])).await;
    assert_eq!(problem["position"], 2);
    let (status, document) = get(&service, "/v1/search", &[]).await;
    assert_eq!((status.as_u16(), places(&document).len()), (200, 4), "topics that are not searched are left out");
}

#[tokio::test]
async fn who_finds_no_place_to_wait_is_told_so() {
    let none = QueryLimits { searches: 0, waiting_searches: 0, ..QueryLimits::default() };
    let service = world().await.service_within(none, true);
    for path in ["/v1/search", "/v1/topics/t/partitions/0/records"] {
        let (status, problem) = get(&service, path, &[]).await;
        assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("busy")));
    }
}

#[tokio::test]
async fn records_are_read_wherever_they_lie() {
    let world = world().await;
    for service in [world.service(true), world.service(false)] {
        let (status, document) =
            get(&service, "/v1/topics/t/partitions/0/records", &parameters([("limit", "1")])).await;
        assert_eq!((status.as_u16(), &document["next_offset"]), (200, &json!(1)));
        assert_eq!(document["records"][0]["value"], "Der Größte");
    }
    let service = world.service(true);
    let (_, document) = get(&service, "/v1/topics/t/partitions/0/records", &parameters([("offset", "1")])).await;
    let offsets: Vec<_> =
        document["records"].as_array().unwrap().iter().map(|record| record["offset"].as_i64().unwrap()).collect();
    assert_eq!((offsets, &document["next_offset"]), (vec![1, 2, 3], &json!(4)));
    let (status, document) = get(&service, "/v1/topics/t/partitions/0/records", &parameters([("offset", "4")])).await;
    assert_eq!((status.as_u16(), &document["records"]), (200, &json!([])));
    let (status, problem) = get(&service, "/v1/topics/t/partitions/0/records", &parameters([("offset", "5")])).await;
    assert_eq!((status.as_u16(), &problem["code"], &problem["to"]), (404, &json!("offset_out_of_range"), &json!(4)));
    let (status, problem) = get(&service, "/v1/topics/t/partitions/7/records", &[]).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("unknown_partition")));
    for (path, name, given) in [
        ("one/records", "partition", "\"one\""),
        ("-1/records", "partition", "\"-1\""),
        ("9999999999/records", "partition", "0 to 2147483647"),
        ("0/records?offset=first", "offset", "\"first\""),
        ("0/records?offset=-1", "offset", "\"-1\""),
        ("0/records?offset=1&offset=2", "offset", "once"),
        ("0/records?limit=10001", "limit", "0 to 10000"),
        ("0/records?ofset=2", "ofset", "offset and limit"),
    ] {
        let request = Request::get(format!("/v1/topics/t/partitions/{path}")).body(Body::empty()).unwrap();
        let (status, problem) = answer(&service, request).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("invalid_parameter")), "{path}");
        assert_eq!(problem["parameter"], name);
        assert!(problem["detail"].as_str().unwrap().contains(given), "{problem}");
    }
}

#[tokio::test]
async fn pages_of_large_records_are_cut_short_and_lose_nothing() {
    let value = "x ".repeat(3 << 20);
    let list = (0..5).map(|n| batch(n, &[(n, None, Some(value.as_bytes()))])).collect();
    let mut world = World::new();
    world.add_topic("t", vec![list]);
    world.ship(2).await;
    world.export(0).await;
    let service = world.service(true);
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..5 {
        let mut list = parameters([("topic", "t"), ("limit", "5")]);
        list.extend(cursor.map(|cursor| ("cursor", cursor)));
        let (status, document) = get(&service, "/v1/search", &list).await;
        assert_eq!((status.as_u16(), places(&document).len()), (200, 1));
        assert_eq!(document["total"], json!({"value": 5, "relation": "eq"}));
        found.extend(places(&document).into_iter().map(|(_, _, offset)| offset));
        cursor = document["cursor"].as_str().map(str::to_owned);
    }
    assert_eq!((found, cursor), (vec![4, 3, 2, 1, 0], None));
}

#[tokio::test]
async fn a_record_larger_than_a_page_is_a_page_of_its_own_while_there_is_room() {
    let (small, large) = ("small".to_owned(), "x".repeat(9 << 20));
    let list = [&small, &large, &small];
    let list = (0..).zip(list).map(|(n, value)| batch(n, &[(n, None, Some(value.as_bytes()))])).collect();
    let mut world = World::new();
    world.add_topic("t", vec![list]);
    world.ship(2).await;
    world.export(0).await;
    let service = world.service_within(QueryLimits { answer_bytes: 1 << 20, ..QueryLimits::default() }, true);
    let path = "/v1/topics/t/partitions/0/records";
    for offset in 0..3 {
        let (_, document) = get(&service, path, &parameters([("offset", &offset.to_string())])).await;
        let values: Vec<_> =
            document["records"].as_array().unwrap().iter().map(|record| record["value"].as_str().unwrap()).collect();
        let expected = [&small, &large, &small][offset];
        assert!(values == [expected.as_str()] && document["next_offset"] == offset + 1, "{offset}");
    }
    let search = "/v1/search?topic=t&sort=oldest&from=1&limit=5";
    let untaken = service.clone().oneshot(Request::get(search).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(untaken.status(), 200);
    for path in [search, "/v1/topics/t/partitions/0/records?offset=1"] {
        let (status, problem) = answer(&service, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (status.as_u16(), &problem["code"], &problem["limit_bytes"]),
            (503, &json!("busy"), &json!(1 << 20))
        );
    }
    let (status, _) = get(&service, path, &parameters([("offset", "2")])).await;
    assert_eq!(status, 200, "a small answer has room");
    drop(untaken);
    let (status, document) = answer(&service, Request::get(search).body(Body::empty()).unwrap()).await;
    assert_eq!((status.as_u16(), document["hits"][0]["value"].as_str()), (200, Some(&*large)));
}
