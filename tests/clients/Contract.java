import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;

/**
 * What the drivers in Java share: the parameters, the pod and the report. The harness sets
 * NAMESPACE, PREFIX, COUNT and IN_FLIGHT in the environment, and KUBECONFIG or the variables of a
 * cluster. A driver prints one line of JSON.
 */
public class Contract {
  static final String NAMESPACE = System.getenv().getOrDefault("NAMESPACE", "default");

  /** The running pod of the action `streams`, what is run in it, and what its port sends back. */
  static final String POD = System.getenv("POD");

  static final String[] COMMAND = {"sh", "-c", "echo out"};
  static final int PORT = 80;
  static final byte[] PING = "ping".getBytes();

  interface Create {
    /** Returns the name of the stored pod. */
    String create(String name) throws Exception;
  }

  /** Prints the report, and the version of the jar that this class is from. */
  static void main(Class<?> client, Callable<Map<String, Object>> action) {
    Map<String, Object> report = new LinkedHashMap<>();
    try {
      report.putAll(action.call());
    } catch (Throwable error) {
      report.put("error", said(error));
    }
    var jar = client.getProtectionDomain().getCodeSource().getLocation().getPath();
    report.put("version", jar.replaceAll(".*-([0-9][^/]*)\\.jar$", "$1"));
    System.out.println(json(report));
    System.out.flush();
    // Threads of a client must not keep the process alive.
    Runtime.getRuntime().halt(0);
  }

  static Map<String, Object> user(String name) {
    return Map.of("user", name);
  }

  /** Creates all pods and returns what the client was told. */
  static Map<String, Object> storm(Create create) throws Exception {
    List<Object> created = new ArrayList<>();
    Map<String, Object> failed = new LinkedHashMap<>();
    var workers = Executors.newFixedThreadPool(Integer.parseInt(System.getenv("IN_FLIGHT")));
    List<Callable<Object>> all = new ArrayList<>();
    for (int i = 0; i < Integer.parseInt(System.getenv("COUNT")); i++) {
      var name = System.getenv("PREFIX") + "-" + i;
      all.add(
          () -> {
            String stored = null, problem = null;
            try {
              stored = create.create(name);
            } catch (Throwable error) {
              problem = said(error);
            }
            synchronized (created) {
              return problem == null ? created.add(stored) : failed.put(name, problem);
            }
          });
    }
    var started = System.nanoTime();
    workers.invokeAll(all);
    var seconds = (System.nanoTime() - started) / 1e9;
    return Map.of("created", created, "failed", failed, "seconds", seconds);
  }

  /** A small pod. Quotas count its requests. */
  static String pod(String name) {
    return """
        apiVersion: v1
        kind: Pod
        metadata: {name: "%s", namespace: "%s"}
        spec:
          containers:
            - name: main
              image: registry.k8s.io/pause:3.10
              resources: {requests: {cpu: 1m, memory: 1Mi}}
        """
        .formatted(name, NAMESPACE);
  }

  static String said(Throwable error) {
    var text = new StringBuilder();
    for (; error != null; error = error.getCause()) {
      text.append(text.isEmpty() ? "" : " <- ").append(error);
    }
    return text.toString();
  }

  static String json(Object value) {
    if (value instanceof Map<?, ?> map) {
      List<String> members = new ArrayList<>();
      map.forEach((key, member) -> members.add(json(key) + ":" + json(member)));
      return "{" + String.join(",", members) + "}";
    }
    if (value instanceof List<?> list) {
      return "[" + String.join(",", list.stream().map(Contract::json).toList()) + "]";
    }
    if (value instanceof Number) {
      return value.toString();
    }
    var text = new StringBuilder("\"");
    for (char c : String.valueOf(value).toCharArray()) {
      text.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? "\\u%04x".formatted((int) c) : "" + c);
    }
    return text.append('"').toString();
  }
}
