import io.fabric8.kubernetes.api.model.Pod;
import io.fabric8.kubernetes.api.model.authentication.SelfSubjectReview;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.http.HttpClient;
import io.fabric8.kubernetes.client.jdkhttp.JdkHttpClientFactory;
import io.fabric8.kubernetes.client.okhttp.OkHttpClientFactory;
import io.fabric8.kubernetes.client.utils.Serialization;
import io.fabric8.kubernetes.client.vertx.VertxHttpClientFactory;

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
            default -> throw new IllegalArgumentException(arguments[1]);
          };
        });
  }

  static String create(KubernetesClient client, String name) {
    var pod = Serialization.unmarshal(Contract.pod(name), Pod.class);
    return client.pods().inNamespace(Contract.NAMESPACE).resource(pod).create().getMetadata().getName();
  }

  static String whoami(KubernetesClient client) {
    return client.resource(new SelfSubjectReview()).create().getStatus().getUserInfo().getUsername();
  }
}
