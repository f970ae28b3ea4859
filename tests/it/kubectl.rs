//! The real kubectl with the kubeconfig that the proxy has written.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::{NAMESPACE, Protocol, Rig, conflict, pod, sample, soon, speaking};

cases!(kubectl_works_through_the_proxy, protocols);
async fn kubectl_works_through_the_proxy(up: Protocol) {
    let Some(kubectl) = Kubectl::start(up).await else {
        return;
    };
    let faults = kubectl.rig.plane.faults(0).unwrap();

    assert!(kubectl.ok(&["version"], "").await.contains("v1.32.0"));
    assert!(
        kubectl
            .ok(&["api-resources", "--no-headers"], "")
            .await
            .contains("resourcequotas")
    );
    assert_eq!(kubectl.ok(&["get", "--raw", "/livez"], "").await, "ok");

    faults.next_create(conflict());
    let created = kubectl
        .ok(&["create", "--validate=false", "-f", "-"], &pod("a"))
        .await;
    assert_eq!(created.trim(), "pod/a created");
    assert_eq!(
        sample(
            &kubectl.rig.proxy,
            "kube_retry_proxy_replays_total{class=\"quota_conflict\"}"
        ),
        1.0
    );

    let exists = kubectl
        .run(&["create", "--validate=false", "-f", "-"], &pod("a"))
        .await;
    assert!(
        !exists.success && exists.stderr.contains("(AlreadyExists)"),
        "{exists:?}"
    );

    let listed = kubectl.ok(&["get", "pods", "-o", "name"], "").await;
    assert_eq!(listed.trim(), "pod/a");
    let object: serde_json::Value =
        serde_json::from_str(&kubectl.ok(&["get", "pod", "a", "-o", "json"], "").await).unwrap();
    assert_eq!(object["metadata"]["name"], "a");
    assert!(
        kubectl
            .ok(&["get", "pods"], "")
            .await
            .lines()
            .any(|line| line.starts_with("a "))
    );
    assert!(
        kubectl
            .ok(&["get", "resourcequota", "compute-quota", "-o", "yaml"], "")
            .await
            .contains("name: compute-quota")
    );

    kubectl.rig.plane.logs().push(NAMESPACE, "a", "a line");
    assert_eq!(kubectl.ok(&["logs", "a"], "").await, "a line");

    // Newer versions add the namespace.
    assert!(
        kubectl
            .ok(&["delete", "pod", "a", "--wait=false"], "")
            .await
            .starts_with("pod \"a\" deleted")
    );
    assert!(kubectl.rig.plane.pods(NAMESPACE).is_empty());
    let missing = kubectl.run(&["get", "pod", "a"], "").await;
    assert!(
        !missing.success && missing.stderr.contains("(NotFound)"),
        "{missing:?}"
    );
    kubectl.rig.stop().await;
}

cases!(kubectl_prints_what_happens_while_it_watches, protocols);
async fn kubectl_prints_what_happens_while_it_watches(up: Protocol) {
    let Some(kubectl) = Kubectl::start(up).await else {
        return;
    };
    let mut writer = kubectl.rig.direct(up).await;
    writer.create("before").await;
    let mut watch = kubectl.spawn(&["get", "pods", "--watch", "-o", "name"], "");
    assert_eq!(watch.line().await, "pod/before");
    writer.create("after").await;
    assert_eq!(watch.line().await, "pod/after");
    drop(watch);
    kubectl.rig.stop().await;
}

/// kubectl next to a proxy, as in a pod.
struct Kubectl {
    rig: Rig,
    directory: TempDir,
}

#[derive(Debug)]
struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Kubectl {
    /// `None` if kubectl is missing; in CI that is a failure.
    async fn start(up: Protocol) -> Option<Self> {
        if Command::new("kubectl")
            .args(["version", "--client"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "kubectl is not on the PATH"
            );
            eprintln!("kubectl is not on the PATH: its tests are left out");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        let rig = Rig::with(speaking(up), |config| {
            config.serving.self_signed.directory = Some(directory.path().to_owned());
            config.serving.self_signed.token_file.clone_from(&token);
        })
        .await;
        std::fs::write(token, rig.plane.token()).unwrap();
        Some(Self { rig, directory })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn spawn(&self, arguments: &[&str], input: &str) -> Running {
        let mut child = Command::new("kubectl")
            .args(["--namespace", NAMESPACE, "--kubeconfig"])
            .arg(self.kubeconfig())
            .args(arguments)
            // kubectl uses neither the configuration nor the cache of the user.
            .env("HOME", self.directory.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let (send, lines) = mpsc::channel(64);
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        spawn_blocking(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        let errors = spawn_blocking(move || {
            let mut text = String::new();
            stderr
                .read_to_string(&mut text)
                .map(|_| text)
                .unwrap_or_default()
        });
        Running {
            child,
            lines,
            errors,
        }
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        self.spawn(arguments, input).output().await
    }

    /// The output of a command that must succeed.
    async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        assert!(output.success, "kubectl {arguments:?}: {output:?}");
        output.stdout
    }
}

/// A running kubectl. It is killed when this is dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    errors: JoinHandle<String>,
}

impl Running {
    async fn line(&mut self) -> String {
        soon(self.lines.recv()).await.expect("a line of output")
    }

    async fn output(mut self) -> Output {
        let mut stdout = Vec::new();
        while let Some(line) = soon(self.lines.recv()).await {
            stdout.push(line);
        }
        let stderr = soon(&mut self.errors).await.unwrap();
        let success = self.child.wait().unwrap().success();
        Output {
            success,
            stdout: stdout.join("\n"),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
