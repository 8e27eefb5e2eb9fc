//! rdkafka, which is librdkafka.

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clients::{Offsets, Outcome, Read, Record, Request, Requests, serve, tell};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let bootstrap = env::args().nth(1).expect("PROGRAM BOOTSTRAP");
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4");
    let client = Client { settings };
    serve(|request, requests| client.carry_out(request, requests));
}

struct Client {
    settings: ClientConfig,
}

impl Client {
    fn carry_out(&self, request: Request, requests: &Requests) -> Outcome {
        match request {
            Request::Create { topic, partitions } => self.create(&topic, partitions),
            Request::Describe { topic } => self.describe(&topic),
            Request::Delete { topic } => self.delete(&topic),
            Request::DeleteRecords { topic, before } => self.delete_records(&topic, &before),
            Request::Produce { topic, codec, idempotent, records } => {
                self.produce(&topic, &codec, idempotent, &records)
            }
            Request::Flood { topic, codec, idempotent, in_flight } => {
                self.flood(&topic, &codec, idempotent, in_flight, requests)
            }
            Request::Consume { topic, from, to } => self.consume(&topic, &from, to),
            Request::Offsets { topic, partitions, times } => self.offsets(&topic, partitions, &times),
            Request::Group { topic, group } => self.group(&topic, &group, requests),
            Request::Stop => Err("there is nothing to stop".into()),
        }
    }

    fn admin(&self) -> Outcome<AdminClient<DefaultClientContext>> {
        Ok(self.settings.create()?)
    }

    fn create(&self, topic: &str, partitions: i32) -> Outcome {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let created = block_on(self.admin()?.create_topics([&topic], &AdminOptions::new()))?;
        succeeded(created)
    }

    fn describe(&self, topic: &str) -> Outcome {
        let metadata = self.consumer("unused", &[])?.fetch_metadata(Some(topic), PATIENCE)?;
        let [topic] = metadata.topics() else {
            return Err("the broker told of other topics".into());
        };
        if let Some(error) = topic.error() {
            return Err(RDKafkaErrorCode::from(error).into());
        }
        tell(json!({"partitions": topic.partitions().len()}));
        Ok(())
    }

    fn delete(&self, topic: &str) -> Outcome {
        succeeded(block_on(self.admin()?.delete_topics(&[topic], &AdminOptions::new()))?)
    }

    fn delete_records(&self, topic: &str, before: &Offsets) -> Outcome {
        let places = places(topic, before)?;
        let deleted = block_on(self.admin()?.delete_records(&places, &AdminOptions::new()))?;
        for place in deleted.elements() {
            place.error()?;
        }
        Ok(())
    }

    fn producer(&self, codec: &str, idempotent: bool, deliveries: Deliveries) -> Outcome<BaseProducer<Deliveries>> {
        let mut settings = self.settings.clone();
        settings.set("compression.type", codec).set("enable.idempotence", idempotent.to_string());
        settings.set("linger.ms", "50");
        Ok(settings.create_with_context(deliveries)?)
    }

    fn produce(&self, topic: &str, codec: &str, idempotent: bool, records: &[Record]) -> Outcome {
        let producer = self.producer(codec, idempotent, Deliveries::default())?;
        for record in records {
            let mut sent = BaseRecord::<[u8], [u8]>::to(topic).timestamp(record.timestamp).headers(headers(record));
            sent.key = record.key.as_ref().map(|key| &key.0[..]);
            sent.payload = record.value.as_ref().map(|value| &value.0[..]);
            producer.send(sent).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
        producer.context().succeeded()
    }

    fn flood(&self, topic: &str, codec: &str, idempotent: bool, in_flight: i32, requests: &Requests) -> Outcome {
        let producer = self.producer(codec, idempotent, Deliveries { told: true, ..Deliveries::default() })?;
        let mut sent = 0;
        while !requests.told_to_stop() && producer.context().succeeded().is_ok() {
            if producer.in_flight_count() >= in_flight {
                producer.poll(Duration::from_millis(100));
                continue;
            }
            let value = sent.to_string();
            let record = BaseRecord::<[u8], str>::to(topic).partition(0).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
            sent += 1;
            producer.poll(Duration::ZERO);
        }
        producer.flush(2 * PATIENCE)?;
        producer.context().succeeded()?;
        tell(json!({"sent": sent}));
        Ok(())
    }

    fn consumer(&self, group: &str, more: &[(&str, &str)]) -> Outcome<BaseConsumer> {
        let mut settings = self.settings.clone();
        settings.set("group.id", group).set("enable.auto.commit", "false");
        settings.set("auto.offset.reset", "earliest").set("check.crcs", "true");
        for (name, value) in more {
            settings.set(*name, *value);
        }
        Ok(settings.create()?)
    }

    fn consume(&self, topic: &str, from: &Offsets, mut left: Offsets) -> Outcome {
        let consumer = self.consumer("assigned by hand", &[])?;
        consumer.assign(&places(topic, from)?)?;
        while !left.is_empty() {
            let Some(message) = consumer.poll(PATIENCE) else {
                return Err(format!("nothing came for {} s; open is {left:?}", PATIENCE.as_secs()).into());
            };
            let message = message?;
            show(&message);
            if left.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                left.remove(&message.partition());
            }
        }
        Ok(())
    }

    fn offsets(&self, topic: &str, partitions: i32, times: &[i64]) -> Outcome {
        let consumer = self.consumer("unused", &[])?;
        let marks: Vec<(i64, i64)> = (0..partitions)
            .map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE))
            .collect::<Result<_, _>>()?;
        let (earliest, latest): (Vec<i64>, Vec<i64>) = marks.into_iter().unzip();
        tell(json!({"earliest": earliest, "latest": latest}));
        for time in times {
            let asked = (0..partitions).map(|partition| (partition, *time)).collect();
            let found = consumer.offsets_for_times(places(topic, &asked)?, PATIENCE)?;
            let offsets: Vec<Option<i64>> = found.elements().iter().map(|place| place.offset().to_raw()).collect();
            tell(json!({"time": time, "offsets": offsets}));
        }
        Ok(())
    }

    fn group(&self, topic: &str, group: &str, requests: &Requests) -> Outcome {
        let soon = [("heartbeat.interval.ms", "500"), ("session.timeout.ms", "30000")];
        let consumer = self.consumer(group, &soon)?;
        consumer.subscribe(&[topic])?;
        while !requests.told_to_stop() {
            let Some(message) = consumer.poll(Duration::from_millis(200)) else {
                continue;
            };
            let message = message?;
            match consumer.commit_message(&message, CommitMode::Sync) {
                Ok(()) => show(&message),
                Err(error) => tell(json!({"not_committed": error.to_string()})),
            }
        }
        Ok(())
    }
}

/// What became of the records of a producer.
#[derive(Default)]
struct Deliveries {
    /// Whether each is told.
    told: bool,
    acknowledged: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn succeeded(&self) -> Outcome {
        match &*self.failed.lock().expect("nobody panics") {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let acknowledged = self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
        match result {
            Ok(_) if self.told => tell(json!({"acknowledged": acknowledged})),
            Ok(_) => {}
            Err((error, _)) => *self.failed.lock().expect("nobody panics") = Some(error.clone()),
        }
    }
}

fn succeeded(topics: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Outcome {
    for topic in topics {
        topic.map_err(|(_, error)| error)?;
    }
    Ok(())
}

fn places(topic: &str, offsets: &Offsets) -> Outcome<TopicPartitionList> {
    let mut places = TopicPartitionList::new();
    for (partition, offset) in offsets {
        places.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(places)
}

fn headers(record: &Record) -> OwnedHeaders {
    record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_ref().map(|value| &value.0) })
    })
}

fn show(message: &BorrowedMessage<'_>) {
    let headers = message.headers().map(|headers| headers.iter().map(|header| (header.key, header.value)).collect());
    let read = Read {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: headers.unwrap_or_default(),
    };
    read.tell();
}
