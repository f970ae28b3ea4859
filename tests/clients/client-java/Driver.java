import io.kubernetes.client.openapi.ApiException;
import io.kubernetes.client.openapi.Configuration;
import io.kubernetes.client.openapi.apis.AuthenticationV1Api;
import io.kubernetes.client.openapi.apis.CoreV1Api;
import io.kubernetes.client.openapi.models.V1Pod;
import io.kubernetes.client.openapi.models.V1SelfSubjectReview;
import io.kubernetes.client.util.Config;
import io.kubernetes.client.util.Yaml;

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
            default -> throw new IllegalArgumentException(arguments[1]);
          };
        });
  }

  static String create(String name) throws Exception {
    var pod = Yaml.loadAs(Contract.pod(name), V1Pod.class);
    try {
      return new CoreV1Api().createNamespacedPod(Contract.NAMESPACE, pod).execute().getMetadata().getName();
    } catch (ApiException refused) {
      // Its own text leaves out what the apiserver said.
      throw new Exception(refused.getMessage() + " " + refused.getResponseBody(), refused);
    }
  }

  static String whoami() throws Exception {
    var review = new AuthenticationV1Api().createSelfSubjectReview(new V1SelfSubjectReview()).execute();
    return review.getStatus().getUserInfo().getUsername();
  }
}
