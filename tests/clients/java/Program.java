import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.common.TopicPartition;

/** What the Java programs share: requests from standard input, answers to standard output. */
final class Program {
    static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;
    private static final BlockingQueue<JsonNode> REQUESTS = new LinkedBlockingQueue<>();

    /** Carries out one request. */
    interface Operations {
        void carryOut(JsonNode request) throws Exception;
    }

    private Program() {}

    /** Carries out requests, one after the other, until standard input ends. */
    static void serve(Operations operations) throws InterruptedException {
        Thread reader = new Thread(Program::read);
        reader.setDaemon(true);
        reader.start();
        while (true) {
            JsonNode request = REQUESTS.take();
            try {
                operations.carryOut(request);
                tell(JSON.createObjectNode().put("done", true));
            } catch (Exception error) {
                Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
                tell(JSON.createObjectNode().put("error", cause.toString()));
            }
        }
    }

    private static void read() {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                REQUESTS.add(JSON.readTree(line));
            }
        } catch (Exception error) {
            error.printStackTrace();
        }
        System.exit(0);
    }

    /** Whether the next request is there; for those that end when told. */
    static boolean toldToStop() {
        return REQUESTS.poll() != null;
    }

    static synchronized void tell(JsonNode event) {
        OUT.println(event);
        OUT.flush();
    }

    static Map<TopicPartition, Long> offsetsIn(String topic, JsonNode offsets) {
        Map<TopicPartition, Long> found = new HashMap<>();
        offsets.fields().forEachRemaining(entry ->
                found.put(new TopicPartition(topic, Integer.parseInt(entry.getKey())), entry.getValue().asLong()));
        return found;
    }

    static byte[] decoded(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static String encoded(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }
}
