//! The sources of the settings, and the messages at the start.

use http::{Method, StatusCode};
use kube_retry_proxy::config::{CaSource, SelfSignedConfig};
use kube_retry_proxy::tls;
use model_control_plane::Settings;

use crate::support::executable::{Place, Served, command, serve};
use crate::support::{Answer, admin};

#[tokio::test]
async fn serves_with_flags_alone_and_says_where_in_one_line() {
    let place = Place::new().await;
    let served = place.served(&[]).await;
    assert_eq!(
        place.client(&served).await.create("a").await.status,
        StatusCode::CREATED
    );
    assert_eq!(place.plane.pods("team").len(), 1);
    assert_eq!(admin::get(served.admin, "/livez").await.text(), "ok");
    assert!(
        served.address.ip().is_loopback() && served.address.port() != 0,
        "{}",
        served.line
    );
    assert!(
        served
            .line
            .contains(&format!("upstream={}", place.plane.urls()[0])),
        "{}",
        served.line
    );
    served.process.signal("TERM");
    let ended = served.process.ended().await;
    assert_eq!(ended.stdout, "", "stdout is for results");
    assert_eq!(
        ended
            .stderr
            .lines()
            .filter(|line| line.contains("Serving"))
            .count(),
        1,
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn as_many_threads_serve_as_the_variable_says() {
    for number in [1, 3] {
        let place = Place::new().await;
        let mut command = place.serve(&[]);
        command.env("TOKIO_WORKER_THREADS", number.to_string());
        let served = Served::start(command).await;
        for name in ["a", "b"] {
            let created = place.client(&served).await.create(name).await;
            assert_eq!(created.status, StatusCode::CREATED);
        }
        assert_eq!(admin::get(served.admin, "/readyz").await.status, 200);
        let threads = format!("/proc/{}/task", served.process.id());
        let threads = std::fs::read_dir(threads).unwrap().count();
        assert!(
            if number == 1 {
                threads == 1
            } else {
                threads > number
            },
            "{threads} threads instead of {number}"
        );
        served.process.signal("TERM");
        assert_eq!(served.process.ended().await.code, Some(0));
    }
}

#[tokio::test]
async fn the_start_line_in_json_is_an_object_with_both_addresses() {
    let place = Place::new().await;
    let served = place.served(&["--log-format", "json"]).await;
    let line: serde_json::Value = serde_json::from_str(&served.line).unwrap();
    assert_eq!(
        (&line["message"], &line["level"], &line["mode"]),
        (&"Serving".into(), &"INFO".into(), &"Enforce".into())
    );
    assert_eq!(line["address"], served.address.to_string());
    assert_eq!(line["admin_address"], served.admin.to_string());
    assert_eq!(line["kubeconfig"], place.path("kubeconfig"));
    served.process.signal("TERM");
    for line in served.process.ended().await.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
}

#[tokio::test]
async fn a_client_can_start_from_the_files_that_are_written_for_it() {
    let place = Place::new().await;
    let served = place.served(&["--token-file", "/its/token"]).await;
    let kubeconfig = place.read("kubeconfig");
    assert!(
        kubeconfig.contains(&format!(
            "server: https://127.0.0.1:{}",
            served.address.port()
        )),
        "{kubeconfig}"
    );
    assert!(kubeconfig.contains("tokenFile: /its/token"), "{kubeconfig}");
    let endpoint =
        kube_retry_proxy::kubeconfig::read_endpoint(place.path("kubeconfig").as_ref(), None)
            .unwrap();
    assert_eq!(
        endpoint.ca,
        Some(CaSource::Pem(place.read("ca.crt").into_bytes()))
    );

    // Clients read the CA once, so a restart keeps it.
    let before = place.read("ca.crt");
    drop(served);
    place.served(&[]).await;
    assert_eq!(place.read("ca.crt"), before);
}

#[tokio::test]
async fn serves_with_a_configuration_file_alone() {
    let place = Place::new().await;
    let served = Served::start(command(&[
        "serve",
        "--config",
        &place.config("mode: Observe\n"),
    ]))
    .await;
    assert_eq!(
        place.client(&served).await.create("a").await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        admin::get(served.admin, "/configz").await.json()["mode"],
        "Observe"
    );
}

#[tokio::test]
async fn serves_with_a_certificate_of_its_own() {
    let place = Place::new().await;
    let own = tempfile::tempdir().unwrap();
    let made = tls::self_signed(&SelfSignedConfig {
        directory: Some(own.path().to_owned()),
        ..Default::default()
    })
    .unwrap();
    let [certificate, key] =
        ["tls.crt", "tls.key"].map(|name| own.path().join(name).to_str().unwrap().to_owned());
    let served = place
        .served(&[
            "--tls-cert-file",
            &certificate,
            "--tls-private-key-file",
            &key,
        ])
        .await;
    assert_eq!(
        served
            .client(&made.ca_pem, place.plane.token())
            .await
            .create("a")
            .await
            .status,
        StatusCode::CREATED
    );
    assert!(
        !std::path::Path::new(&place.path("ca.crt")).exists(),
        "nothing is signed beside it"
    );
}

#[tokio::test]
async fn takes_the_apiserver_but_no_credentials_from_a_kubeconfig() {
    let place = Place::with(Settings {
        apiservers: 1,
        tokens: vec!["of-the-kubeconfig".into()],
        ..Settings::quick()
    })
    .await;
    let (url, directory) = (&place.plane.urls()[0], place.path(""));
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: other\n\
         clusters:\n- {{name: this, cluster: {{server: '{url}', certificate-authority: upstream-ca.crt}}}}\n\
         - {{name: other, cluster: {{server: 'https://192.0.2.1', insecure-skip-tls-verify: true}}}}\n\
         contexts:\n- {{name: this, context: {{cluster: this, user: me}}}}\n- {{name: other, context: {{cluster: other, user: me}}}}\n\
         users:\n- {{name: me, user: {{token: of-the-kubeconfig}}}}\n"
    );
    let kubeconfig = place.write("admin.conf", &kubeconfig);
    let served = Served::start(serve(&[
        "--kubeconfig",
        &kubeconfig,
        "--context",
        "this",
        "--self-signed-dir",
        &directory,
    ]))
    .await;

    let own = place.client(&served).await.create("a").await;
    assert_eq!(
        own.status,
        StatusCode::CREATED,
        "the client has the token by itself"
    );
    let mut client = served.client(&place.read("ca.crt"), "another").await;
    assert_eq!(
        client.create("b").await.status,
        StatusCode::UNAUTHORIZED,
        "it is not replaced"
    );
    let mut anonymous = client.request(Method::GET, "/api/v1/namespaces/team/pods", "");
    anonymous.headers_mut().remove("authorization");
    let refused = Answer::of(client.send(anonymous).await).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "it is not added");
    assert!(
        refused.headers.contains_key("audit-id"),
        "the apiserver's own answer: {refused:?}"
    );
    let asked = place.plane.journal().attempts();
    // The read that crosses the GOAWAY after a 401 may be sent again.
    let creates = asked
        .iter()
        .filter(|attempt| attempt.method == Method::POST)
        .count();
    let own = asked
        .iter()
        .filter(|attempt| attempt.path != "/api/v1/namespaces/team/pods")
        .count();
    assert_eq!(
        (creates, own),
        (2, 0),
        "the proxy asks nothing by itself: {asked:?}"
    );
}

#[tokio::test]
async fn every_flag_can_be_an_environment_variable() {
    let place = Place::new().await;
    let mut command = command(&["serve"]);
    command.envs([
        ("KUBE_RETRY_PROXY_UPSTREAM", place.plane.urls()[0].as_str()),
        (
            "KUBE_RETRY_PROXY_UPSTREAM_CA_FILE",
            &place.path("upstream-ca.crt"),
        ),
        ("KUBE_RETRY_PROXY_BIND_ADDRESS", "127.0.0.1"),
        ("KUBE_RETRY_PROXY_SECURE_PORT", "0"),
        ("KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS", "127.0.0.1:0"),
        ("KUBE_RETRY_PROXY_SELF_SIGNED_DIR", &place.path("")),
        ("KUBE_RETRY_PROXY_LOG_FORMAT", "json"),
        ("KUBE_RETRY_PROXY_MODE", "off"),
    ]);
    let served = Served::start(command).await;
    assert!(served.line.starts_with('{'), "{}", served.line);
    assert_eq!(
        admin::get(served.admin, "/configz").await.json()["mode"],
        "Off"
    );
    assert_eq!(
        place.client(&served).await.create("a").await.status,
        StatusCode::CREATED
    );
}

cases!(
    a_flag_wins_over_the_environment_and_that_over_the_file,
    [
        file(None, None, "Off"),
        environment_over_file(None, Some("Observe"), "Observe"),
        flag_over_environment(Some("Enforce"), Some("Observe"), "Enforce"),
    ]
);
async fn a_flag_wins_over_the_environment_and_that_over_the_file(
    flag: Option<&str>,
    variable: Option<&str>,
    expected: &str,
) {
    let place = Place::new().await;
    let config = place.config("mode: Off\nmetrics: {decisions: 7}\n");
    let flags = flag.map(|mode| ["--mode", mode]);
    let mut command = command(&["serve", "--config", &config]);
    command.args(flags.into_iter().flatten());
    command.envs(variable.map(|mode| ("KUBE_RETRY_PROXY_MODE", mode)));
    let served = Served::start(command).await;
    let configz = admin::get(served.admin, "/configz").await.json();
    assert_eq!(
        (&configz["mode"], &configz["metrics"]["decisions"]),
        (&expected.into(), &7.into())
    );
}

#[tokio::test]
async fn finds_the_apiserver_of_its_cluster() {
    let place = Place::new().await;
    let (ca, directory) = (place.path("upstream-ca.crt"), place.path(""));
    let mut command = serve(&["--upstream-ca-file", &ca, "--self-signed-dir", &directory]);
    let address = place.plane.addresses()[0];
    command
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string());
    let served = Served::start(command).await;
    assert_eq!(
        place.client(&served).await.create("a").await.status,
        StatusCode::CREATED
    );
}
