import io.fabric8.kubernetes.api.model.Pod;
import io.fabric8.kubernetes.api.model.authentication.SelfSubjectReview;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.http.HttpClient;
import io.fabric8.kubernetes.client.jdkhttp.JdkHttpClientFactory;
import io.fabric8.kubernetes.client.okhttp.OkHttpClientFactory;
import io.fabric8.kubernetes.client.utils.Serialization;
import io.fabric8.kubernetes.client.vertx.VertxHttpClientFactory;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.net.Socket;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** fabric8's client with each of its HTTP clients, and otherwise with its defaults. */
public class Driver {
  public static void main(String[] arguments) throws Exception {
    Contract.main(
        KubernetesClient.class,
        () -> {
          HttpClient.Factory factory =
              switch (arguments[0]) {
                case "okhttp" -> new OkHttpClientFactory();
                case "jdk" -> new JdkHttpClientFactory();
                case "vertx" -> new VertxHttpClientFactory();
                default -> throw new IllegalArgumentException(arguments[0]);
              };
          var client = new KubernetesClientBuilder().withHttpClientFactory(factory).build();
          return switch (arguments[1]) {
            case "create" -> Contract.storm(name -> create(client, name));
            case "whoami" -> Contract.user(whoami(client));
            case "streams" -> streams(client);
            default -> throw new IllegalArgumentException(arguments[1]);
          };
        });
  }

  static String create(KubernetesClient client, String name) {
    var pod = Serialization.unmarshal(Contract.pod(name), Pod.class);
    return client.pods().inNamespace(Contract.NAMESPACE).resource(pod).create().getMetadata().getName();
  }

  static Map<String, Object> streams(KubernetesClient client) throws Exception {
    var pods = client.pods().inNamespace(Contract.NAMESPACE);
    var pod = pods.withName(Contract.POD);
    var seen = new CompletableFuture<String>();
    var watcher =
        new Watcher<Pod>() {
          @Override
          public void eventReceived(Action action, Pod event) {
            seen.complete(event.getMetadata().getName());
          }

          @Override
          public void onClose(WatcherException cause) {
            seen.completeExceptionally(cause);
          }
        };
    var out = new ByteArrayOutputStream();
    try (var watch = pods.watch(watcher);
        var followed = pod.watchLog();
        var exec = pod.writingOutput(out).exec(Contract.COMMAND);
        var forward = pod.portForward(Contract.PORT);
        var socket = new Socket(forward.getLocalAddress(), forward.getLocalPort())) {
      exec.exitCode().get(30, TimeUnit.SECONDS);
      socket.getOutputStream().write(Contract.PING);
      var echo = socket.getInputStream().readNBytes(Contract.PING.length);
      return Map.of(
          "watch", seen.get(30, TimeUnit.SECONDS),
          "log", new BufferedReader(new InputStreamReader(followed.getOutput())).readLine(),
          "exec", out.toString(),
          "forward", new String(echo));
    }
  }

  static String whoami(KubernetesClient client) {
    return client.resource(new SelfSubjectReview()).create().getStatus().getUserInfo().getUsername();
  }
}
