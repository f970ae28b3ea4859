//! Clients with certificates: what kubectl gets with one through the proxy, and directly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control_plane::ControlPlane;
use crate::process::{output, within};
use crate::proxy::Proxy;

pub fn trials() -> Vec<Trial> {
    let trial = crate::trial;
    vec![
        trial(
            "certificates::kubectl_is_the_same_user_as_directly",
            same_user,
        ),
        trial(
            "certificates::kubectl_works_with_a_certificate_alone",
            kubectl_works,
        ),
        trial(
            "certificates::what_does_not_count_directly_does_not_count_proxied",
            refused,
        ),
        trial("certificates::a_denied_group_never_passes", denied),
        trial(
            "certificates::replaced_cas_hold_for_later_requests",
            reloaded,
        ),
    ]
}

/// openssl drops attributes that it does not know from a subject.
const REQUEST: &str = "oid_section = oids\n[oids]\nkubernetesUid = 1.3.6.1.4.1.57683.2\n\
                       [req]\ndistinguished_name = none\n[none]\n";

/// A CA that issues client certificates.
pub struct Issuer {
    directory: Arc<TempDir>,
    certificate: PathBuf,
    key: PathBuf,
}

/// A client's certificate, its key, and the CAs in between.
pub struct Credentials {
    certificate: PathBuf,
    key: PathBuf,
    /// Where the files are.
    directory: Arc<TempDir>,
}

impl Issuer {
    /// The CA of the apiservers' `--client-ca-file`.
    pub fn of(plane: &ControlPlane) -> Self {
        Self {
            directory: Arc::new(tempfile::tempdir().unwrap()),
            certificate: plane.pki("ca.crt"),
            key: plane.pki("ca.key"),
        }
    }

    /// Another one.
    fn unknown() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let (certificate, key) = (
            directory.path().join("ca.crt"),
            directory.path().join("ca.key"),
        );
        openssl(
            directory.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=unknown -keyout ca.key -out ca.crt",
        );
        Self {
            directory,
            certificate,
            key,
        }
    }

    /// A certificate for a client. `subject` is as openssl's, `extensions` as in its configuration,
    /// `days` may be negative.
    pub fn issue(&self, name: &str, subject: &str, extensions: &str, days: i32) -> Credentials {
        let at = |end: &str| self.directory.path().join(format!("{name}.{end}"));
        fs::write(at("ext"), extensions).unwrap();
        fs::write(at("cnf"), REQUEST).unwrap();
        openssl(
            self.directory.path(),
            &format!(
                "req -config {name}.cnf -utf8 -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            self.directory.path(),
            &format!(
                "x509 -req -in {name}.csr -CA {} -CAkey {} -CAcreateserial -CAserial {name}.srl \
                 -days {days} -out {name}.crt -extfile {name}.ext",
                self.certificate.display(),
                self.key.display()
            ),
        );
        Credentials {
            certificate: at("crt"),
            key: at("key"),
            directory: Arc::clone(&self.directory),
        }
    }

    /// A CA below this one. What it issues comes with its own certificate.
    fn intermediate(&self, name: &str) -> Self {
        let made = self.issue(
            name,
            &format!("/CN={name}"),
            "basicConstraints=critical,CA:TRUE\n",
            2,
        );
        Self {
            certificate: made.certificate,
            key: made.key,
            directory: made.directory,
        }
    }
}

impl Credentials {
    /// With the CAs in between.
    fn followed_by(self, issuer: &Issuer) -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let chain = read(&self.certificate) + &read(&issuer.certificate);
        fs::write(&self.certificate, chain).unwrap();
        self
    }

    /// A kubeconfig with this certificate beside a token, or alone.
    pub fn kubeconfig(&self, server: &str, ca: &Path, token: Option<&str>) -> PathBuf {
        let mut user = json!({
            "client-certificate": self.certificate, "client-key": self.key,
        });
        if let Some(token) = token {
            user["token"] = token.into();
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        let port = server.rsplit(':').next().unwrap();
        let with = if token.is_some() { "-token" } else { "" };
        let path = self.key.with_extension(format!("{port}{with}.kubeconfig"));
        fs::write(&path, config.to_string()).unwrap();
        path
    }
}

fn openssl(directory: &Path, arguments: &str) {
    output(
        Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(directory),
    );
}

/// Runs kubectl directly and through the proxy. Returns whether it succeeded and what it printed.
fn both(
    plane: &ControlPlane,
    proxy: &Proxy,
    credentials: &Credentials,
    token: Option<&str>,
    arguments: &[&str],
) -> [(bool, String); 2] {
    let (direct, proxied) = (plane.ca_file(), proxy.ca_file());
    [(&plane.servers[0], direct), (&proxy.url, proxied)].map(|(server, ca)| {
        let kubeconfig = credentials.kubeconfig(server, &ca, token);
        let ended = plane
            .kubectl_with(&kubeconfig)
            .args(arguments)
            .output()
            .unwrap();
        let printed = [ended.stdout, ended.stderr].concat();
        (
            ended.status.success(),
            String::from_utf8_lossy(&printed).into_owned(),
        )
    })
}

const WHO: [&str; 4] = ["auth", "whoami", "-o", "json"];

/// The user in the output of `kubectl auth whoami -o json`.
fn user(printed: &str) -> Value {
    let review: Value = serde_json::from_str(printed).unwrap_or_else(|_| panic!("{printed}"));
    review["status"]["userInfo"].clone()
}

fn same_user(plane: &'static ControlPlane) {
    let issuer = Issuer::of(plane);
    let below = issuer.intermediate("below");
    let further = below.intermediate("further");
    let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
    let plain = |name: &str, subject: &str| issuer.issue(name, subject, "", 2);
    let rows = [
        plain("one", "/CN=jane"),
        plain("groups", "/O=b/O=a/O=b/CN=jane"),
        plain("names", "/CN=first/OU=x/O=a,c/CN=system:node:n"),
        plain("utf8", "/O=größe/CN=zoë"),
        plain("masters", "/O=kubeadm:cluster-admins/CN=kubernetes-admin"),
        plain("uid", "/CN=jane/kubernetesUid=7"),
        issuer.issue(
            "for-both",
            "/CN=j",
            "extendedKeyUsage=serverAuth,clientAuth\n",
            2,
        ),
        further
            .issue("chain", "/O=x/CN=jane", "extendedKeyUsage=clientAuth\n", 2)
            // In the wrong order.
            .followed_by(&below)
            .followed_by(&further),
    ];
    for credentials in &rows {
        // A certificate comes before a token, directly too.
        for token in [None, Some(plane.token("user")), Some("wrong".to_owned())] {
            let [direct, proxied] = both(plane, &proxy, credentials, token.as_deref(), &WHO);
            let name = credentials.certificate.display();
            assert!(direct.0 && proxied.0, "{name}: {} {}", direct.1, proxied.1);
            assert_eq!(user(&direct.1), user(&proxied.1), "{name}");
        }
    }
    let [direct, proxied] = both(plane, &proxy, &rows[1], None, &WHO);
    let id = both(plane, &proxy, &rows[5], None, &WHO)[1].1.clone();
    assert_eq!(user(&id)["uid"], "7");
    let groups = json!(["b", "a", "b", "system:authenticated"]);
    assert_eq!(user(&direct.1)["groups"], groups);
    assert!(proxied.1.contains("X509SHA256="), "{}", proxied.1);

    // Somebody who may impersonate may do so.
    plane.kubectl(&[
        "create",
        "clusterrole",
        "impersonates",
        "--verb=impersonate",
        "--resource=users",
    ]);
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "jane-impersonates",
        "--clusterrole=impersonates",
        "--user=jane",
    ]);
    let other = [&WHO[..], &["--as=somebody"]].concat();
    within(Duration::from_secs(10), "RBAC has seen the role", || {
        let [direct, proxied] = both(plane, &proxy, &rows[0], None, &other);
        assert_eq!(direct.0, proxied.0, "{} {}", direct.1, proxied.1);
        direct.0 && user(&direct.1)["username"] == "somebody" && user(&direct.1) == user(&proxied.1)
    });
    let [direct, proxied] = both(plane, &proxy, &rows[3], None, &other);
    assert!(!direct.0 && !proxied.0, "{}", direct.1);
    assert_eq!(direct.1, proxied.1);
    proxy.stop();
}

fn kubectl_works(plane: &'static ControlPlane) {
    let namespace = plane.namespace("certificates", 0);
    // `user` may edit, and the certificate says no more than its token.
    let credentials = Issuer::of(plane).issue("user", "/CN=user", "", 2);
    let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
    let kubeconfig = credentials.kubeconfig(&proxy.url, &proxy.ca_file(), None);
    let kubectl = |arguments: &[&str]| {
        let mut command = plane.kubectl_with(&kubeconfig);
        output(command.args(["--namespace", &namespace]).args(arguments))
    };
    let pod = tempfile::NamedTempFile::new().unwrap();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "applied"},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    });
    fs::write(pod.path(), manifest.to_string()).unwrap();
    let path = pod.path().to_str().unwrap();
    assert!(kubectl(&["apply", "-f", path]).contains("created"));
    assert!(
        kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]).contains("applied")
    );
    assert!(kubectl(&["create", "configmap", "made", "--from-literal=a=b"]).contains("created"));
    assert!(kubectl(&["get", "pods", "-o", "name"]).contains("pod/applied"));
    kubectl(&["label", "pod", "applied", "a=b"]);
    kubectl(&[
        "wait",
        "pod/applied",
        "--for=jsonpath={.metadata.labels.a}=b",
        "--timeout=10s",
    ]);
    assert_eq!(kubectl(&["auth", "can-i", "create", "pods"]).trim(), "yes");
    kubectl(&[
        "delete",
        "pod",
        "applied",
        "--wait=true",
        "--grace-period=0",
        "--force",
    ]);
    let used = |result: &str| {
        let labels = format!("result=\"{result}\"");
        proxy.metric("kube_retry_proxy_client_certificates_total", &labels)
    };
    assert!(used("accepted") > 8, "{}", used("accepted"));
    assert_eq!(used("refused") + used("denied") + used("token"), 0);
    // Others are served beside it, over other connections.
    let token = proxy.kubeconfig(plane, "user");
    let who = output(plane.kubectl_with(&token).args(WHO));
    assert_eq!(user(&who)["username"], "user");
    proxy.stop();
    plane.discard(&namespace);
}

fn refused(plane: &'static ControlPlane) {
    let issuer = Issuer::of(plane);
    let below = issuer.intermediate("below");
    let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
    let rows = [
        (
            Issuer::unknown().issue("wrong", "/CN=jane", "", 2),
            "serving.clientCaFile",
        ),
        (
            issuer.issue("expired", "/CN=jane", "", -1),
            "has expired at 20",
        ),
        (
            issuer.issue("server", "/CN=jane", "extendedKeyUsage=serverAuth\n", 2),
            "must have clientAuth",
        ),
        (
            below.issue("incomplete", "/CN=jane", "", 2),
            "is issued by 'CN=below'",
        ),
        (
            issuer.issue("nobody", "/O=some", "", 2),
            "must have a common name",
        ),
        (
            issuer.issue("ids", "/CN=a/kubernetesUid=7/kubernetesUid=8", "", 2),
            "at most one user id",
        ),
    ];
    for (credentials, why) in rows {
        let name = credentials.certificate.display();
        let [direct, proxied] = both(plane, &proxy, &credentials, None, &WHO);
        assert!(
            !direct.0 && !proxied.0,
            "{name}: {} {}",
            direct.1,
            proxied.1
        );
        assert!(direct.1.contains("Unauthorized"), "{name}: {}", direct.1);
        assert!(proxied.1.contains(why), "{name}: {}", proxied.1);
        let token = plane.token("user");
        let [direct, proxied] = both(plane, &proxy, &credentials, Some(&token), &WHO);
        assert!(direct.0 && proxied.0, "{name}: {} {}", direct.1, proxied.1);
        assert_eq!(user(&proxied.1)["username"], "user", "{name}");
        assert_eq!(user(&direct.1), user(&proxied.1), "{name}");
    }
    proxy.stop();
}

fn denied(plane: &'static ControlPlane) {
    let credentials = Issuer::of(plane).issue("super", "/O=system:masters/CN=super-admin", "", 2);
    let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
    // Other commands of kubectl leave out the text of a 403.
    let may = ["auth", "can-i", "get", "/healthz"];
    for token in [None, Some(plane.token("user"))] {
        let [direct, proxied] = both(plane, &proxy, &credentials, token.as_deref(), &may);
        assert!(direct.0 && !proxied.0, "{} {}", direct.1, proxied.1);
        for part in [
            "Forbidden",
            "\"system:masters\"",
            "serving.clientDeniedGroups",
        ] {
            assert!(proxied.1.contains(part), "{}", proxied.1);
        }
    }
    proxy.stop();

    let none = "clientDeniedGroups: [], ";
    let proxy = Proxy::with_certificates(plane, &plane.servers, none, "");
    let [direct, proxied] = both(plane, &proxy, &credentials, None, &WHO);
    assert_eq!(user(&direct.1), user(&proxied.1));
    proxy.stop();
}

fn reloaded(plane: &'static ControlPlane) {
    let (issuer, other) = (Issuer::of(plane), Issuer::unknown());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients.crt");
    fs::copy(&other.certificate, &file).unwrap();
    let proxy = Proxy::with_certificates_of(plane, &plane.servers, &file, "", "");
    let credentials = issuer.issue("jane", "/CN=jane", "", 2);
    let [direct, proxied] = both(plane, &proxy, &credentials, None, &WHO);
    assert!(direct.0 && !proxied.0, "{}", proxied.1);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    fs::write(&file, read(&other.certificate) + &read(&issuer.certificate)).unwrap();
    within(Duration::from_secs(30), "the new CA counts", || {
        both(plane, &proxy, &credentials, None, &WHO)[1].0
    });
    fs::write(&file, "damaged").unwrap();
    within(Duration::from_secs(30), "the failure is counted", || {
        let labels = "what=\"client_ca\",result=\"failure\"";
        let labels_in_order = "result=\"failure\",what=\"client_ca\"";
        let metric = "kube_retry_proxy_reloads_total";
        proxy.metric(metric, labels) + proxy.metric(metric, labels_in_order) == 1
    });
    assert!(both(plane, &proxy, &credentials, None, &WHO)[1].0);
    proxy.stop();
}
