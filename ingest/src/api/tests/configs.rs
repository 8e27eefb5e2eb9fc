use chronik_wire::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResult, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig,
};

use super::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    }
}

async fn describe(served: &Served, version: i16, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let (include_synonyms, include_documentation) = (version >= 1, version >= 3);
    let asked = DescribeConfigsRequest { resources: vec![resource], include_synonyms, include_documentation };
    served.ask(version, asked).await.results.remove(0)
}

fn one<'a>(described: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    described.configs.iter().find(|config| config.name == name).unwrap_or_else(|| panic!("{name}"))
}

#[tokio::test]
async fn a_topics_settings_say_where_they_come_from_in_every_version() {
    let served = Served::start().await;
    served.create("t", 1, &[("max.message.bytes", "1000"), ("segment.ms", "7")]).await;
    for version in DescribeConfigsRequest::VERSIONS {
        let described = describe(&served, version, resource(TOPIC, "t", None)).await;
        assert_eq!((described.error_code, &described.error_message), (ErrorCode::NONE, &None));
        for (name, value, source, read_only) in [
            ("cleanup.policy", "delete", 5, true),
            ("compression.type", "producer", 5, true),
            ("max.message.bytes", "1000", 1, false),
            ("message.timestamp.type", "CreateTime", 5, false),
            ("min.insync.replicas", "1", 5, true),
            ("retention.bytes", "-1", 5, false),
            ("retention.ms", "-1", 5, false),
            ("search.enabled", "true", 5, false),
            ("segment.bytes", "1073741824", 5, false),
            ("segment.ms", "7", 1, false),
        ] {
            let config = one(&described, name);
            assert_eq!((config.value.as_deref(), config.read_only), (Some(value), read_only), "{name}");
            match version {
                0 => assert_eq!(config.is_default, source == 5, "{name}"),
                _ => assert_eq!(config.config_source, source, "{name}"),
            }
        }
        for (name, synonyms) in [
            ("max.message.bytes", &[("max.message.bytes", "1000", 1), ("message.max.bytes", "1048588", 5)][..]),
            ("cleanup.policy", &[("log.cleanup.policy", "delete", 5)]),
            ("search.enabled", &[("search.enabled", "true", 5)]),
            ("segment.ms", &[("segment.ms", "7", 1)]),
        ] {
            let found = one(&described, name).synonyms.iter();
            let found: Vec<_> = found.map(|one| (one.name.as_str(), one.value.as_deref(), one.source)).collect();
            let wanted = synonyms.iter().map(|(name, value, source)| (*name, Some(*value), *source));
            assert_eq!(found, if version == 0 { Vec::new() } else { wanted.collect::<Vec<_>>() }, "{name}");
        }
        let bytes = one(&described, "max.message.bytes");
        if version >= 3 {
            assert_eq!(bytes.config_type, 3);
            assert_eq!(bytes.documentation.as_deref(), Some("The largest batch, bytes."));
        }
    }
}

#[tokio::test]
async fn only_the_settings_that_are_asked_for_are_answered() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let described = describe(&served, 4, resource(TOPIC, "t", Some(&["retention.ms", "unknown"]))).await;
    assert_eq!(described.configs.iter().map(|config| config.name.as_str()).collect::<Vec<_>>(), ["retention.ms"]);
    assert!(describe(&served, 4, resource(TOPIC, "t", Some(&[]))).await.configs.len() > 1);
    let asked = DescribeConfigsRequest { resources: vec![resource(TOPIC, "t", None); 3], ..Default::default() };
    let answer = served.ask(4, asked).await;
    assert_eq!(answer.results.len(), 1, "each once");
    let config = &answer.results[0].configs[0];
    assert_eq!((config.synonyms.len(), &config.documentation), (0, &None), "neither was asked for");
}

#[tokio::test]
async fn the_broker_has_kafkas_names_for_its_settings() {
    let served = Served::start().await;
    let described = describe(&served, 4, resource(BROKER, "1", None)).await;
    for (name, value, source) in [
        ("auto.create.topics.enable", "true", 4),
        ("num.partitions", "1", 4),
        ("group.initial.rebalance.delay.ms", "500", 4),
        ("offsets.retention.minutes", "10080", 4),
        ("producer.id.expiration.ms", "86400000", 4),
        ("log.retention.check.interval.ms", "300000", 4),
        ("listeners", "INSIDE://127.0.0.1:9092,OUTSIDE://127.0.0.1:9094", 4),
        ("advertised.listeners", "INSIDE://broker.test:9092,OUTSIDE://[fd00::1]:9094", 4),
        ("delete.topic.enable", "true", 5),
        ("message.max.bytes", "1048588", 5),
        ("log.retention.ms", "-1", 5),
        ("group.max.session.timeout.ms", "1800000", 5),
    ] {
        let config = one(&described, name);
        let expected = (Some(value), source, true);
        assert_eq!((config.value.as_deref(), config.config_source, config.read_only), expected, "{name}");
    }
    let all = describe(&served, 4, resource(BROKER, "", None)).await;
    assert_eq!((all.error_code, all.configs.len()), (ErrorCode::NONE, 0));
}

#[tokio::test]
async fn what_has_no_settings_is_told_so() {
    let served = Served::start().await;
    for (resource_type, name, code) in [
        (TOPIC, "absent", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "a b", ErrorCode::INVALID_TOPIC_EXCEPTION),
        (BROKER, "2", ErrorCode::INVALID_REQUEST),
        (8, "1", ErrorCode::INVALID_REQUEST),
        (0, "", ErrorCode::INVALID_REQUEST),
    ] {
        let described = describe(&served, 4, resource(resource_type, name, None)).await;
        assert_eq!((described.error_code, described.configs.len()), (code, 0), "{resource_type} {name}");
        assert!(described.error_message.is_some_and(|message| !message.is_empty()));
    }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn change(topic: &str, changes: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let config = |(name, config_operation, value): &(&str, i8, Option<&str>)| IncrementalAlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    };
    let resource = IncrementalAlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: changes.iter().map(config).collect(),
    };
    IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
}

fn replace(topic: &str, settings: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    let config =
        |(name, value): &(&str, Option<&str>)| AlterableConfig { name: (*name).into(), value: value.map(Into::into) };
    let configs = settings.iter().map(config).collect();
    let resource = AlterConfigsResource { resource_type: TOPIC, resource_name: topic.into(), configs };
    AlterConfigsRequest { resources: vec![resource], validate_only: false }
}

fn given(served: &Served, topic: &str) -> Vec<(String, String)> {
    let topics = served.lane.topics();
    topics.named(topic).unwrap().config.entries().map(|(name, value)| (name.into(), value.into())).collect()
}

fn settings_of(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[tokio::test]
async fn single_settings_change_in_every_version_and_the_others_stay() {
    let served = Served::start().await;
    served.create("t", 1, &[("search.enabled", "false"), ("segment.ms", "7")]).await;
    for version in IncrementalAlterConfigsRequest::VERSIONS {
        let bytes = format!("100{version}");
        let changes = [("max.message.bytes", SET, Some(bytes.as_str())), ("segment.ms", DELETE, None)];
        let check = IncrementalAlterConfigsRequest { validate_only: true, ..change("t", &changes) };
        let before = given(&served, "t");
        assert_eq!(served.ask(version, check).await.responses[0].error_code, ErrorCode::NONE);
        assert_eq!(given(&served, "t"), before, "it was to be checked only");
        let altered = served.ask(version, change("t", &changes)).await.responses.remove(0);
        assert_eq!((altered.error_code, altered.error_message), (ErrorCode::NONE, None));
        assert_eq!(given(&served, "t"), settings_of(&[("max.message.bytes", &bytes), ("search.enabled", "false")]));
    }
}

#[tokio::test]
async fn of_changes_at_once_none_is_lost() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let names: Vec<_> = (0..20).map(|number| format!("segment.{number}")).collect();
    let changes = names.iter().map(|name| served.ask(1, change("t", &[(name, SET, Some("1"))])));
    futures::future::join_all(changes).await;
    assert_eq!(given(&served, "t").len(), 20);
}

#[tokio::test]
async fn all_settings_are_replaced_in_every_version() {
    let served = Served::start().await;
    for version in AlterConfigsRequest::VERSIONS {
        let topic = format!("t{version}");
        served.create(&topic, 1, &[("search.enabled", "false")]).await;
        let asked = replace(&topic, &[("max.message.bytes", Some("1000")), ("retention.ms", Some("-1"))]);
        let check = AlterConfigsRequest { validate_only: true, ..asked.clone() };
        assert_eq!(served.ask(version, check).await.responses[0].error_code, ErrorCode::NONE);
        assert_eq!(given(&served, &topic), settings_of(&[("search.enabled", "false")]));
        assert_eq!(served.ask(version, asked).await.responses[0].error_code, ErrorCode::NONE);
        assert_eq!(given(&served, &topic), settings_of(&[("max.message.bytes", "1000"), ("retention.ms", "-1")]));
    }
}

#[tokio::test]
async fn a_change_that_can_not_be_is_refused_as_a_whole() {
    let served = Served::start().await;
    served.create("t", 1, &[("segment.ms", "7")]).await;
    let long = "1".repeat(4097);
    for (topic, changes, code) in [
        ("absent", vec![], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("t", vec![("max.message.bytes", SET, Some("many"))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("segment.ms", DELETE, None), ("retention.ms", SET, Some("-5"))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("segment.ms", SET, Some(long.as_str()))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("retention.bits", DELETE, None)], ErrorCode::INVALID_CONFIG),
        ("t", vec![("cleanup.policy", APPEND, Some("compact"))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("cleanup.policy", SUBTRACT, Some("delete"))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("segment.ms", APPEND, Some("1"))], ErrorCode::INVALID_CONFIG),
        ("t", vec![("segment.ms", SET, None)], ErrorCode::INVALID_REQUEST),
        ("t", vec![("segment.ms", 4, Some("1"))], ErrorCode::INVALID_REQUEST),
        ("t", vec![("segment.ms", DELETE, None), ("segment.ms", SET, Some("1"))], ErrorCode::INVALID_REQUEST),
    ] {
        let refused = served.ask(1, change(topic, &changes)).await.responses.remove(0);
        assert_eq!(refused.error_code, code, "{changes:?}");
        assert!(refused.error_message.is_some());
        assert_eq!(given(&served, "t"), settings_of(&[("segment.ms", "7")]), "{changes:?}");
    }
    let mut twice = change("t", &[("segment.ms", DELETE, None)]);
    twice.resources.push(twice.resources[0].clone());
    let refused = served.ask(1, twice).await.responses;
    assert_eq!((refused.len(), refused[0].error_code), (1, ErrorCode::INVALID_REQUEST));
    for settings in [vec![("segment.ms", None)], vec![("segment.ms", Some("1")); 2]] {
        let refused = served.ask(2, replace("t", &settings)).await.responses.remove(0);
        assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    }
    for name in ["1", ""] {
        let mut broker = change(name, &[("num.partitions", SET, Some("3"))]);
        broker.resources[0].resource_type = BROKER;
        let refused = served.ask(1, broker).await.responses.remove(0);
        assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
        assert!(refused.error_message.is_some_and(|message| message.contains("at its start")));
    }
    assert_eq!(given(&served, "t"), settings_of(&[("segment.ms", "7")]));
}

#[tokio::test]
async fn a_list_is_appended_to_what_it_has_already() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    for (operation, word) in [(APPEND, "delete"), (SUBTRACT, "compact")] {
        let altered = served.ask(1, change("t", &[("cleanup.policy", operation, Some(word))])).await;
        assert_eq!(altered.responses[0].error_code, ErrorCode::NONE);
        assert_eq!(given(&served, "t"), settings_of(&[("cleanup.policy", "delete")]));
    }
}

#[tokio::test]
async fn batches_that_are_larger_than_what_may_come_now_are_still_read() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    let sent = batch(&[(1, "a")]);
    served.produce(9, "t", &sent).await;
    served.ask(1, change("t", &[("max.message.bytes", SET, Some("0"))])).await;
    assert_eq!(served.produce(9, "t", &sent).await.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(records(&served.fetch(11, "t", 0).await).len(), sent.len(), "in the tail");
    served.ship().await;
    assert_eq!(records(&served.fetch(11, "t", 0).await).len(), sent.len(), "shipped");
}
