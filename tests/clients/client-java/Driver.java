import com.google.gson.reflect.TypeToken;
import io.kubernetes.client.Exec;
import io.kubernetes.client.PodLogs;
import io.kubernetes.client.PortForward;
import io.kubernetes.client.openapi.ApiException;
import io.kubernetes.client.openapi.Configuration;
import io.kubernetes.client.openapi.apis.AuthenticationV1Api;
import io.kubernetes.client.openapi.apis.CoreV1Api;
import io.kubernetes.client.openapi.models.V1Pod;
import io.kubernetes.client.openapi.models.V1SelfSubjectReview;
import io.kubernetes.client.util.Config;
import io.kubernetes.client.util.Watch;
import io.kubernetes.client.util.Yaml;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Map;

/** The official Java client, with its defaults. */
public class Driver {
  public static void main(String[] arguments) throws Exception {
    Contract.main(
        CoreV1Api.class,
        () -> {
          Configuration.setDefaultApiClient(Config.defaultClient());
          return switch (arguments[1]) {
            case "create" -> Contract.storm(Driver::create);
            case "whoami" -> Contract.user(whoami());
            case "streams" -> streams();
            default -> throw new IllegalArgumentException(arguments[1]);
          };
        });
  }

  static String create(String name) throws Exception {
    var pod = Yaml.loadAs(Contract.pod(name), V1Pod.class);
    // Its default is an empty map, which kube-apiserver refuses without a RuntimeClass.
    pod.getSpec().setOverhead(null);
    try {
      return new CoreV1Api().createNamespacedPod(Contract.NAMESPACE, pod).execute().getMetadata().getName();
    } catch (ApiException refused) {
      // Its own text leaves out what the apiserver said.
      throw new Exception(refused.getMessage() + " " + refused.getResponseBody(), refused);
    }
  }

  static Map<String, Object> streams() throws Exception {
    var call = new CoreV1Api().listNamespacedPod(Contract.NAMESPACE).watch(true).buildCall(null);
    var event = new TypeToken<Watch.Response<V1Pod>>() {}.getType();
    String seen;
    try (var watch = Watch.<V1Pod>createWatch(Configuration.getDefaultApiClient(), call, event)) {
      seen = watch.next().object.getMetadata().getName();
    }
    var log = new PodLogs().streamNamespacedPodLog(Contract.NAMESPACE, Contract.POD, "main");
    var exec = new Exec().exec(Contract.NAMESPACE, Contract.POD, Contract.COMMAND, false);
    var out = new String(exec.getInputStream().readAllBytes());
    var forward = new PortForward().forward(Contract.NAMESPACE, Contract.POD, List.of(Contract.PORT));
    forward.getOutboundStream(Contract.PORT).write(Contract.PING);
    forward.getOutboundStream(Contract.PORT).flush();
    var echo = forward.getInputStream(Contract.PORT).readNBytes(Contract.PING.length);
    return Map.of(
        "watch", seen,
        "log", new BufferedReader(new InputStreamReader(log)).readLine(),
        "exec", out,
        "forward", new String(echo));
  }

  static String whoami() throws Exception {
    var review = new AuthenticationV1Api().createSelfSubjectReview(new V1SelfSubjectReview()).execute();
    return review.getStatus().getUserInfo().getUsername();
  }
}
