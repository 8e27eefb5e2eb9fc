import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command line tools as its scripts do, one after another in one process. A request a line from
 * standard input, {"class", "arguments", "input"}, is answered by a line: {"code", "out", "err"}.
 *
 * <p>The tools' own jar, the argument, is not on the class path: each run loads it anew, because tools keep in static
 * fields what they think of as their process's. An exit leaves the thread that asked for it where it is, for ever, as the
 * end of a process would.
 */
public final class Tools {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** A tool that runs. */
    private static final class Run {
        final CompletableFuture<Integer> code = new CompletableFuture<>();
        final Queue<Runnable> hooks = new ConcurrentLinkedQueue<>();

        void exit(int code) {
            this.code.complete(code);
            while (true) {
                LockSupport.park();
            }
        }

        /** Its exit code is that of a process whose main method ends in the same way. */
        void main(Class<?> tool, String[] arguments) {
            try {
                tool.getMethod("main", String[].class).invoke(null, (Object) arguments);
                code.complete(0);
            } catch (InvocationTargetException error) {
                error.getCause().printStackTrace();
                code.complete(1);
            } catch (ReflectiveOperationException error) {
                code.completeExceptionally(error);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        URL[] tools = {Path.of(arguments[0]).toUri().toURL()};
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            answers.println(run(JSON.readTree(line), tools));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static JsonNode run(JsonNode request, URL[] tools) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setIn(new ByteArrayInputStream(request.get("input").asText().getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Run run = new Run();
        Exit.setExitProcedure((code, message) -> run.exit(code));
        Exit.setHaltProcedure((code, message) -> run.exit(code));
        Exit.setShutdownHookAdder((name, hook) -> run.hooks.add(hook));
        // Not closed: threads that a tool leaves behind go on.
        URLClassLoader loader = new URLClassLoader(tools, Tools.class.getClassLoader());
        Class<?> tool = loader.loadClass(request.get("class").asText());
        Thread thread = new Thread(() -> run.main(tool, strings(request.get("arguments"))));
        thread.setContextClassLoader(loader);
        thread.setDaemon(true);
        thread.start();
        int code = run.code.get();
        run.hooks.forEach(Runnable::run);
        return JSON.createObjectNode()
                .put("code", code)
                .put("out", out.toString(StandardCharsets.UTF_8))
                .put("err", err.toString(StandardCharsets.UTF_8));
    }

    private static String[] strings(JsonNode array) {
        List<String> strings = new ArrayList<>();
        array.forEach(element -> strings.add(element.asText()));
        return strings.toArray(String[]::new);
    }
}
