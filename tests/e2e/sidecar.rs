//! The sidecar as described in deploy/: its patch is applied to Argo's real Deployment, and both
//! containers of the result run as processes. The controller uses the kubeconfig that the proxy has
//! written.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::argo::{self, Controller, Version};
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::{self, Proxy};

const PATCH: &str = "deploy/kustomize/components/sidecar/patch.yaml";
const CONFIG: &str = "deploy/kustomize/components/sidecar/config.yaml";

/// The shared volume of the containers, and the mount path of the configuration.
const SHARED: &str = "/var/run/kube-retry-proxy";
const CONFIGURED: &str = "/etc/kube-retry-proxy";

pub fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "sidecar::the_patched_deployment_runs_workflows_through_the_proxy",
        patched,
    )]
}

fn patched(plane: &'static ControlPlane) {
    argo::install(plane, Version::Current);
    let file = |path: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(path)
            .to_str()
            .unwrap()
            .to_owned()
    };
    plane.kubectl(&["apply", "--namespace", "argo", "-f", &file(CONFIG)]);
    plane.kubectl(&[
        "patch",
        "deployment",
        "workflow-controller",
        "--namespace",
        "argo",
        "--patch-file",
        &file(PATCH),
    ]);
    let pod = {
        let deployment = plane.kubectl(&[
            "get",
            "deployment",
            "workflow-controller",
            "--namespace",
            "argo",
            "-o",
            "json",
        ]);
        serde_json::from_str::<Value>(&deployment).unwrap()["spec"]["template"]["spec"].clone()
    };
    let config = plane.kubectl(&[
        "get",
        "configmap",
        "kube-retry-proxy",
        "--namespace",
        "argo",
        "-o",
        r"jsonpath={.data.config\.yaml}",
    ]);

    // Replaces the kubelet: volumes are folders, and environment variables hold the address of the
    // apiserver.
    let (shared, configured) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(configured.path().join("config.yaml"), config).unwrap();
    let folders = [
        (SHARED, shared.path().to_owned()),
        (CONFIGURED, configured.path().to_owned()),
    ];
    let here = |text: &str| {
        folders
            .iter()
            .fold(text.to_owned(), |text, (mount, folder)| {
                text.replace(mount, folder.to_str().unwrap())
            })
    };
    let (_, address) = plane.servers[0].split_once("https://").unwrap();
    let (host, port) = address.split_once(':').unwrap();

    let sidecar = Container::of(&pod["initContainers"][0], &here);
    let mut command = proxy::command();
    sidecar.apply(&mut command);
    command
        .envs([
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port),
        ])
        // The service account's volume, and free ports.
        .env("KUBE_RETRY_PROXY_UPSTREAM_CA_FILE", plane.ca_file())
        .env("KUBE_RETRY_PROXY_TOKEN_FILE", plane.token_file("argo"))
        .envs([
            ("KUBE_RETRY_PROXY_SECURE_PORT", "0"),
            ("KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS", "127.0.0.1:0"),
        ]);
    let proxy = Proxy::run(&mut command, shared);

    let controller = Container::of(&pod["containers"][0], &here);
    assert_eq!(
        controller.env["KUBECONFIG"],
        proxy.written_kubeconfig().to_str().unwrap()
    );
    let mut command = Version::Current.controller();
    controller.apply(&mut command);
    let mut controller = Controller::run(plane, &mut command, "sidecar");

    let namespace = plane.namespace("sidecar", 0);
    plane.create(&argo::pod_workflow(&namespace, "one"));
    within(Duration::from_secs(60), "the workflow has its pod", || {
        controller.assert_running();
        argo::pods_by_workflow(plane, &namespace).contains_key("one")
    });
    assert_eq!(
        proxy.metric(
            "kube_retry_proxy_outcomes_total",
            &format!("namespace=\"{namespace}\",outcome=\"created\"")
        ),
        1
    );
    assert!(
        proxy.metric("kube_retry_proxy_streams", "") > 0,
        "its informers watch through the proxy"
    );
    drop(controller);
    proxy.stop();
    plane.discard(&namespace);
}

/// The command line and environment of a container.
struct Container {
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Container {
    fn of(container: &Value, here: &impl Fn(&str) -> String) -> Self {
        let args = container["args"]
            .as_array()
            .map(|args| args.iter().map(|arg| here(arg.as_str().unwrap())).collect());
        let env = container["env"].as_array().into_iter().flatten();
        // Variables that refer to fields of the pod have no value here.
        let env = env
            .filter_map(|variable| {
                Some((
                    variable["name"].as_str()?.to_owned(),
                    here(variable["value"].as_str()?),
                ))
            })
            .collect();
        Self {
            args: args.unwrap_or_default(),
            env,
        }
    }

    fn apply(&self, command: &mut Command) {
        command.args(&self.args).envs(&self.env);
    }
}
