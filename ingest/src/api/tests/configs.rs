use chronik_wire::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
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
            ("retention.bytes", "-1", 5, true),
            ("retention.ms", "-1", 5, true),
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
        let bytes = one(&described, "max.message.bytes");
        let synonyms: Vec<_> = bytes.synonyms.iter().map(|one| (one.value.as_deref(), one.source)).collect();
        match version {
            0 => assert_eq!(synonyms, []),
            _ => assert_eq!(synonyms, [(Some("1000"), 1), (Some("1048588"), 5)]),
        }
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
        ("listeners", "PLAINTEXT://127.0.0.1:9092", 4),
        ("advertised.listeners", "PLAINTEXT://broker.test:9092", 4),
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
