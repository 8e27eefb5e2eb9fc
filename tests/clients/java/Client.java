import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Apache Kafka's own client as a program: what it is asked and how it answers stands in tests/clients/__init__.py.
 * Compiles with kafka-clients 0.11 to 4.
 */
public final class Client {
    private final String bootstrap;

    private Client(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Program.serve(new Client(arguments[0])::carryOut);
    }

    private void carryOut(JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        switch (request.get("do").asText()) {
            case "create" -> create(topic, request.get("partitions").asInt());
            case "describe" -> describe(topic);
            case "delete" -> delete(topic);
            case "delete_records" -> deleteRecords(topic, request.get("before"));
            case "produce" -> produce(topic, request);
            case "flood" -> flood(topic, request);
            case "consume" -> consume(topic, request);
            case "offsets" -> offsets(topic, request);
            case "group" -> group(topic, request.get("group").asText());
            default -> throw new IllegalArgumentException(request.toString());
        }
    }

    private void create(String topic, int partitions) throws Exception {
        try (AdminClient admin = AdminClient.create(settings())) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get(30, TimeUnit.SECONDS);
        }
    }

    private void describe(String topic) throws Exception {
        try (AdminClient admin = AdminClient.create(settings())) {
            TopicDescription found = described(admin.describeTopics(List.of(topic))).get(topic);
            Program.tell(Program.JSON.createObjectNode().put("partitions", found.partitions().size()));
        }
    }

    /** Its method has had two names. */
    @SuppressWarnings("unchecked")
    private static Map<String, TopicDescription> described(DescribeTopicsResult result) throws Exception {
        String name = has(DescribeTopicsResult.class, "allTopicNames") ? "allTopicNames" : "all";
        Object future = DescribeTopicsResult.class.getMethod(name).invoke(result);
        return ((KafkaFuture<Map<String, TopicDescription>>) future).get(30, TimeUnit.SECONDS);
    }

    private void delete(String topic) throws Exception {
        try (AdminClient admin = AdminClient.create(settings())) {
            admin.deleteTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        }
    }

    /** Clients have it since 1.1. */
    private void deleteRecords(String topic, JsonNode before) throws Exception {
        Class<?> recordsToDelete = Class.forName("org.apache.kafka.clients.admin.RecordsToDelete");
        Method beforeOffset = recordsToDelete.getMethod("beforeOffset", long.class);
        Map<TopicPartition, Object> offsets = new HashMap<>();
        for (Iterator<String> partitions = before.fieldNames(); partitions.hasNext(); ) {
            String partition = partitions.next();
            Object kept = beforeOffset.invoke(null, before.get(partition).asLong());
            offsets.put(new TopicPartition(topic, Integer.parseInt(partition)), kept);
        }
        try (AdminClient admin = AdminClient.create(settings())) {
            Method delete = AdminClient.class.getMethod("deleteRecords", Map.class);
            Object deleted = delete.invoke(admin, offsets);
            ((KafkaFuture<?>) delete.getReturnType().getMethod("all").invoke(deleted)).get(30, TimeUnit.SECONDS);
        }
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode request) {
        Map<String, Object> settings = settings();
        settings.put("acks", "all");
        settings.put("linger.ms", 50);
        settings.put("retries", Integer.MAX_VALUE);
        settings.put("compression.type", request.get("codec").asText());
        settings.put("enable.idempotence", request.get("idempotent").asBoolean());
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private void produce(String topic, JsonNode request) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(request)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : request.get("records")) {
                List<Header> headers = new ArrayList<>();
                for (JsonNode header : record.get("headers")) {
                    headers.add(new RecordHeader(header.get(0).asText(), Program.decoded(header.get(1))));
                }
                Long timestamp = record.get("timestamp").asLong();
                byte[] key = Program.decoded(record.get("key"));
                byte[] value = Program.decoded(record.get("value"));
                sent.add(producer.send(new ProducerRecord<>(topic, null, timestamp, key, value, headers)));
            }
            for (Future<RecordMetadata> future : sent) {
                future.get(60, TimeUnit.SECONDS);
            }
        }
    }

    private void flood(String topic, JsonNode request) throws Exception {
        Semaphore room = new Semaphore(request.get("in_flight").asInt());
        AtomicInteger acknowledged = new AtomicInteger();
        AtomicReference<Exception> failed = new AtomicReference<>();
        int sent = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer(request)) {
            while (!Program.toldToStop() && failed.get() == null) {
                if (!room.tryAcquire(100, TimeUnit.MILLISECONDS)) {
                    continue;
                }
                byte[] value = Integer.toString(sent).getBytes(StandardCharsets.UTF_8);
                sent++;
                producer.send(new ProducerRecord<>(topic, 0, null, value), (metadata, error) -> {
                    room.release();
                    if (error == null) {
                        ObjectNode event = Program.JSON.createObjectNode();
                        Program.tell(event.put("acknowledged", acknowledged.incrementAndGet()));
                    } else {
                        failed.set(error);
                    }
                });
            }
            producer.flush();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
        Program.tell(Program.JSON.createObjectNode().put("sent", sent));
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> settings = settings();
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "earliest");
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void consume(String topic, JsonNode request) throws Exception {
        Map<TopicPartition, Long> left = Program.offsetsIn(topic, request.get("to"));
        Map<TopicPartition, Long> from = Program.offsetsIn(topic, request.get("from"));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            consumer.assign(from.keySet());
            from.forEach(consumer::seek);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (!left.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : poll(consumer, 500)) {
                    tell(record);
                    TopicPartition partition = new TopicPartition(topic, record.partition());
                    left.computeIfPresent(partition, (same, end) -> record.offset() + 1 >= end ? null : end);
                }
                if (System.nanoTime() > deadline) {
                    throw new TimeoutException("after 60 s open is " + left);
                }
            }
        }
    }

    private void offsets(String topic, JsonNode request) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < request.get("partitions").asInt(); partition++) {
            partitions.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            Map<TopicPartition, Long> earliest = consumer.beginningOffsets(partitions);
            Map<TopicPartition, Long> latest = consumer.endOffsets(partitions);
            ObjectNode marks = Program.JSON.createObjectNode();
            ArrayNode first = marks.putArray("earliest");
            ArrayNode last = marks.putArray("latest");
            for (TopicPartition partition : partitions) {
                first.add(earliest.get(partition));
                last.add(latest.get(partition));
            }
            Program.tell(marks);
            for (JsonNode time : request.get("times")) {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions.forEach(partition -> asked.put(partition, time.asLong()));
                Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(asked);
                ObjectNode answer = Program.JSON.createObjectNode().put("time", time.asLong());
                ArrayNode offsets = answer.putArray("offsets");
                for (TopicPartition partition : partitions) {
                    offsets.add(Optional.ofNullable(found.get(partition)).map(OffsetAndTimestamp::offset).orElse(-1L));
                }
                Program.tell(answer);
            }
        }
    }

    private void group(String topic, String name) throws Exception {
        Map<String, Object> settings = Map.of("group.id", name, "heartbeat.interval.ms", 500, "session.timeout.ms", 30_000);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            while (!Program.toldToStop()) {
                ConsumerRecords<byte[], byte[]> records = poll(consumer, 200);
                try {
                    consumer.commitSync();
                } catch (CommitFailedException error) {
                    Program.tell(Program.JSON.createObjectNode().put("not_committed", error.toString()));
                    continue;
                }
                records.forEach(Client::tell);
            }
        }
    }

    /** A number of milliseconds before 2.0, a duration from then on. */
    @SuppressWarnings("unchecked")
    private static ConsumerRecords<byte[], byte[]> poll(KafkaConsumer<byte[], byte[]> consumer, long milliseconds)
            throws Exception {
        boolean duration = has(KafkaConsumer.class, "poll", Duration.class);
        Class<?> type = duration ? Duration.class : long.class;
        Object time = duration ? (Object) Duration.ofMillis(milliseconds) : (Object) milliseconds;
        try {
            return (ConsumerRecords<byte[], byte[]>) KafkaConsumer.class.getMethod("poll", type).invoke(consumer, time);
        } catch (InvocationTargetException error) {
            throw (Exception) error.getCause();
        }
    }

    private static boolean has(Class<?> type, String method, Class<?>... parameters) {
        try {
            type.getMethod(method, parameters);
            return true;
        } catch (NoSuchMethodException missing) {
            return false;
        }
    }

    private Map<String, Object> settings() {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        return settings;
    }

    private static void tell(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode event = Program.JSON.createObjectNode();
        ObjectNode told = event.putObject("record");
        told.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
        told.put("key", Program.encoded(record.key())).put("value", Program.encoded(record.value()));
        ArrayNode headers = told.putArray("headers");
        record.headers().forEach(header -> headers.addArray().add(header.key()).add(Program.encoded(header.value())));
        Program.tell(event);
    }
}
