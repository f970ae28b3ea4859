//! What a kubelet answers: kubectl's logs, exec, attach and port-forward, through the proxy as
//! directly, over SPDY and over WebSocket. kwok is the kubelet.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::process::{Running, output, within};
use crate::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    let trial = crate::trial_with_nodes;
    vec![
        trial("kubelet::commands_end_as_directly", commands),
        trial("kubelet::logs_and_attach_show_what_is_written", followed),
        trial("kubelet::port_forward_carries_both_directions", forwarded),
        trial(
            "kubelet::a_watch_sees_a_pod_run_end_and_free_its_quota",
            watched,
        ),
    ]
}

/// A pod that runs, and the proxy in front of the first apiserver.
struct Pod {
    plane: &'static ControlPlane,
    namespace: String,
    proxy: Proxy,
}

/// How kubectl upgrades a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Spdy,
    WebSocket,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Path {
    Direct,
    Proxied,
}

impl Pod {
    fn start(plane: &'static ControlPlane, purpose: &str) -> Self {
        let namespace = plane.namespace(purpose, 0);
        plane.create(&pod(&namespace, "stays", "Always"));
        plane.kubectl(&[
            "wait",
            "pod/stays",
            "--for=condition=Ready",
            "--timeout=30s",
            "--namespace",
            &namespace,
        ]);
        Self {
            plane,
            namespace,
            proxy: Proxy::start(plane, &plane.servers[..1], ""),
        }
    }

    fn kubectl(&self, path: Path, protocol: Protocol, arguments: &[&str]) -> Command {
        let kubeconfig: PathBuf = match path {
            Path::Direct => self.plane.kubeconfig("user", "apiserver-0"),
            Path::Proxied => self.proxy.kubeconfig(self.plane, "user"),
        };
        let mut kubectl = self.plane.kubectl_with(&kubeconfig);
        let websocket = (protocol == Protocol::WebSocket).to_string();
        kubectl
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &websocket)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", &websocket);
        kubectl
    }

    /// kubectl in the background. Its log is in a file of this name.
    fn running(
        &self,
        path: Path,
        protocol: Protocol,
        what: &'static str,
        arguments: &[&str],
    ) -> Running {
        let log = format!("kubectl-{what}-{protocol:?}-{path:?}.log");
        let mut command = self.kubectl(path, protocol, arguments);
        Running::logging(what, &mut command, &self.plane.logs().join(log))
    }

    /// How many WebSockets the apiserver has accepted. kubectl falls back to SPDY without a word.
    fn websockets(&self) -> f64 {
        let metrics = output(
            self.plane
                .kubectl_with(&self.plane.kubeconfig("admin", "apiserver-0"))
                .args(["get", "--raw", "/metrics"]),
        );
        let kinds =
            ["translator", "tunnel"].map(|kind| format!("apiserver_stream_{kind}_requests"));
        metrics
            .lines()
            .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Runs something on each path over each protocol, and checks that it used the protocol.
    fn each(&self, mut run: impl FnMut(Path, Protocol)) {
        for protocol in [Protocol::Spdy, Protocol::WebSocket] {
            for path in [Path::Direct, Path::Proxied] {
                let before = self.websockets();
                run(path, protocol);
                assert_eq!(
                    self.websockets() > before,
                    protocol == Protocol::WebSocket,
                    "{path:?} over {protocol:?}"
                );
            }
        }
    }

    fn stop(self) {
        self.plane.discard(&self.namespace);
        self.proxy.stop();
    }
}

/// What is run, its input, and what its output contains.
struct Row(&'static [&'static str], String, &'static str);

fn commands(plane: &'static ControlPlane) {
    let pod = Pod::start(plane, "commands");
    let row = |arguments, says| Row(arguments, String::new(), says);
    let rows = [
        row(
            &["exec", "stays", "--", "sh", "-c", "echo out; echo err >&2"],
            "out\n",
        ),
        row(
            &["exec", "stays", "--", "sh", "-c", "echo before; exit 3"],
            "before\n",
        ),
        row(
            &["exec", "stays", "--", "sh", "-c", "seq 200000"],
            "\n200000\n",
        ),
        row(&["exec", "stays", "--", "no-such-program"], ""),
        row(&["exec", "no-such-pod", "--", "true"], ""),
        row(&["attach", "no-such-pod"], ""),
        row(&["port-forward", "no-such-pod", ":80"], ""),
        row(&["logs", "stays"], "a fake container\n"),
        row(&["logs", "stays", "--tail=1", "--timestamps"], "Z "),
        row(&["logs", "stays", "--container", "none"], ""),
        Row(
            &[
                "exec",
                "-i",
                "stays",
                "--",
                "sh",
                "-c",
                "read line; echo got $line",
            ],
            "hello\n".to_owned(),
            "got hello\n",
        ),
        Row(
            &[
                "exec",
                "-i",
                "stays",
                "--",
                "sh",
                "-c",
                "head -c 1000000 | wc -c",
            ],
            "x".repeat(1_000_000),
            "1000000\n",
        ),
    ];
    let mut answers: Vec<(Protocol, Vec<Output>)> = Vec::new();
    pod.each(|path, protocol| {
        let all = rows.iter().map(|Row(arguments, input, says)| {
            let answer = with_input(&mut pod.kubectl(path, protocol, arguments), input);
            let out = String::from_utf8_lossy(&answer.stdout);
            assert!(
                out.contains(says),
                "{arguments:?} {path:?} over {protocol:?}: {answer:?}"
            );
            answer
        });
        answers.push((protocol, all.collect()));
    });
    for pair in answers.chunks(2) {
        for (row, (direct, proxied)) in rows.iter().zip(pair[0].1.iter().zip(&pair[1].1)) {
            assert_eq!(direct, proxied, "{:?} over {:?}", row.0, pair[0].0);
        }
    }
    pod.stop();
}

/// Lines appear while the connection is open.
fn followed(plane: &'static ControlPlane) {
    let pod = Pod::start(plane, "followed");
    let log = plane.logs().join("container.log");
    let write = |line: &str| {
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        writeln!(file, "2026-01-01T00:00:00Z stdout F {line}").unwrap();
    };
    pod.each(|path, protocol| {
        for (what, arguments) in [
            ("logs", ["logs", "--follow", "stays"].as_slice()),
            ("attach", &["attach", "stays"]),
        ] {
            let mut running = pod.running(path, protocol, what, arguments);
            let line = format!("{what} {path:?} {protocol:?}");
            within(PATIENCE, &line, || {
                running.assert_running();
                // attach shows only what is written after it has connected.
                write(&line);
                running.log().contains(&line)
            });
        }
    });
    pod.stop();
}

/// kwok sends back what it receives.
fn forwarded(plane: &'static ControlPlane) {
    const BYTES: usize = 1_000_000;
    let pod = Pod::start(plane, "forwarded");
    pod.each(|path, protocol| {
        let arguments = ["port-forward", "stays", ":80"];
        let mut running = pod.running(path, protocol, "port-forward", &arguments);
        let mut port = None;
        within(PATIENCE, "port-forward listens", || {
            running.assert_running();
            let log = running.log();
            let said = log.lines().find_map(|line| {
                let (port, _) = line
                    .strip_prefix("Forwarding from 127.0.0.1:")?
                    .split_once(' ')?;
                port.parse::<u16>().ok()
            });
            port = said;
            port.is_some()
        });
        // Two connections, one after the other, share the tunnel.
        for byte in [b'a', b'b'] {
            let mut connection = TcpStream::connect(("127.0.0.1", port.unwrap())).unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut sender = connection.try_clone().unwrap();
            let sending = std::thread::spawn(move || {
                sender.write_all(&vec![byte; BYTES]).unwrap();
                sender
            });
            let mut received = vec![0; BYTES];
            connection.read_exact(&mut received).unwrap();
            assert!(
                received.iter().all(|got| *got == byte),
                "{path:?} over {protocol:?}"
            );
            sending.join().unwrap().shutdown(Shutdown::Both).unwrap();
        }
    });
    pod.stop();
}

/// The watch is open before the pod exists. The quota has room for one pod beside the one that
/// stays, so the second pod needs the room of the first one.
fn watched(plane: &'static ControlPlane) {
    let pod_that_stays = Pod::start(plane, "watched");
    let in_namespace = ["--namespace", &pod_that_stays.namespace];
    plane.kubectl(
        &[
            &["create", "quota", "room", "--hard=pods=2"],
            &in_namespace[..],
        ]
        .concat(),
    );
    let has_room = || {
        let used = ["get", "quota", "room", "-o", "jsonpath={.status.used.pods}"];
        plane.kubectl(&[&used, &in_namespace[..]].concat()) == "1"
    };
    within(PATIENCE, "the quota counts the pod", has_room);
    let arguments = ["get", "pods", "--watch", "--output-watch-events"];
    for path in [Path::Direct, Path::Proxied] {
        let name = format!("ends-{path:?}").to_lowercase();
        let mut running = pod_that_stays.running(path, Protocol::Spdy, "watch", &arguments);
        within(PATIENCE, "the watch is open", || {
            running.assert_running();
            running.log().contains("stays")
        });
        plane.create(&pod(&pod_that_stays.namespace, &name, "Never"));
        let events = || {
            let log = running.log();
            let mine = log.lines().filter(|line| line.contains(&name));
            // The event and the column STATUS.
            mine.map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                format!("{} {}", words[0], words[3])
            })
            .collect::<Vec<_>>()
        };
        within(PATIENCE, "the pod has ended", || {
            events()
                .last()
                .is_some_and(|last| last == "MODIFIED Completed")
        });
        within(PATIENCE, "the ended pod does not count", has_room);
        let events = events();
        assert_eq!(events[0], "ADDED Pending", "{path:?}: {events:?}");
        assert!(
            events.iter().any(|event| event == "MODIFIED Running"),
            "{path:?}: {events:?}"
        );
    }
    pod_that_stays.stop();
}

fn pod(namespace: &str, name: &str, restart: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": namespace, "name": name },
        "spec": { "restartPolicy": restart, "containers": [{ "name": "main", "image": "none" }] },
    })
}

/// Runs a command to its end. Its input stays open, as at a terminal: kwok does not pass on the end.
fn with_input(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input ends before this.
    let _ = stdin.write_all(input.as_bytes());
    let told = child.wait_with_output().unwrap();
    drop(stdin);
    told
}
