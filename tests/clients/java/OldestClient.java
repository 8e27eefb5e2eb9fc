import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Apache Kafka's own client of before record batches, which has no headers, no idempotent producer and no admin client.
 * Compiles with kafka-clients 0.9 and 0.10; messages have timestamps since 0.10.
 */
public final class OldestClient {
    private final String bootstrap;

    private OldestClient(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Program.serve(new OldestClient(arguments[0])::carryOut);
    }

    private void carryOut(JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        switch (request.get("do").asText()) {
            case "produce" -> produce(topic, request);
            case "consume" -> consume(topic, request);
            case "offsets" -> offsets(topic, request.get("partitions").asInt());
            case "group" -> group(topic, request.get("group").asText());
            default -> throw new IllegalArgumentException(request.toString());
        }
    }

    private void produce(String topic, JsonNode request) throws Exception {
        Map<String, Object> settings = settings();
        settings.put("acks", "all");
        settings.put("linger.ms", 50);
        settings.put("compression.type", request.get("codec").asText());
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : request.get("records")) {
                sent.add(producer.send(recordFor(topic, record)));
            }
            for (Future<RecordMetadata> future : sent) {
                future.get(60, TimeUnit.SECONDS);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private static ProducerRecord<byte[], byte[]> recordFor(String topic, JsonNode record) throws Exception {
        byte[] key = Program.decoded(record.get("key"));
        byte[] value = Program.decoded(record.get("value"));
        if (!hasTimestamps()) {
            return new ProducerRecord<>(topic, key, value);
        }
        return (ProducerRecord<byte[], byte[]>) ProducerRecord.class
                .getConstructor(String.class, Integer.class, Long.class, Object.class, Object.class)
                .newInstance(topic, null, record.get("timestamp").asLong(), key, value);
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
            consumer.assign(List.copyOf(from.keySet()));
            from.forEach(consumer::seek);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (!left.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(500)) {
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

    private void offsets(String topic, int count) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < count; partition++) {
            partitions.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            consumer.assign(partitions);
            ObjectNode marks = Program.JSON.createObjectNode();
            for (String end : List.of("Beginning", "End")) {
                seek(consumer, "seekTo" + end, partitions);
                ArrayNode offsets = marks.putArray(end.equals("End") ? "latest" : "earliest");
                partitions.forEach(partition -> offsets.add(consumer.position(partition)));
            }
            Program.tell(marks);
        }
    }

    /** Takes an array in 0.9, a collection from then on. */
    private static void seek(KafkaConsumer<byte[], byte[]> consumer, String method, List<TopicPartition> partitions)
            throws Exception {
        Class<?> type = hasTimestamps() ? Collection.class : TopicPartition[].class;
        Object places = hasTimestamps() ? partitions : partitions.toArray(new TopicPartition[0]);
        try {
            KafkaConsumer.class.getMethod(method, type).invoke(consumer, places);
        } catch (InvocationTargetException error) {
            throw (Exception) error.getCause();
        }
    }

    private void group(String topic, String name) {
        Map<String, Object> settings =
                Map.of("group.id", name, "heartbeat.interval.ms", 500, "session.timeout.ms", 30_000);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            while (!Program.toldToStop()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(200);
                try {
                    consumer.commitSync();
                } catch (CommitFailedException error) {
                    Program.tell(Program.JSON.createObjectNode().put("not_committed", error.toString()));
                    continue;
                }
                records.forEach(OldestClient::tell);
            }
        }
    }

    private static boolean hasTimestamps() {
        try {
            ConsumerRecord.class.getMethod("timestamp");
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
        ObjectNode told = event.putObject("record").put("partition", record.partition()).put("offset", record.offset());
        told.put("timestamp", timestampOf(record));
        told.put("key", Program.encoded(record.key())).put("value", Program.encoded(record.value()));
        told.putArray("headers");
        Program.tell(event);
    }

    private static Long timestampOf(ConsumerRecord<byte[], byte[]> record) {
        try {
            return hasTimestamps() ? (Long) ConsumerRecord.class.getMethod("timestamp").invoke(record) : null;
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }
}
