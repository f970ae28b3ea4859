//! Runs `helm test` without a kubelet: the containers of the proxy and of the test run as
//! processes, with the files that their volumes would contain.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::cluster::Cluster;
use super::{read, write};
use crate::process::{everything, output};
use crate::workspace::PROXY;

const TEST_POD: &str = "pod/kube-retry-proxy-test";

/// The limit for the proxy to start listening.
const LISTENING: Duration = Duration::from_secs(10);

/// A process that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster<'_> {
    pub(super) fn helm_test(&self) -> Result<()> {
        let volumes = self.deploy.out("kubelet");
        if volumes.exists() {
            fs::remove_dir_all(&volumes)?;
        }
        self.write_volumes(&volumes)?;
        let (_proxy, address) = self.start_proxy(&volumes)?;

        let kubeconfig = volumes.join("client/kubeconfig");
        let text = read(&kubeconfig)?;
        let host = host_of(&text).with_context(|| format!("no https URL of a server:\n{text}"))?;

        let mut test = self.helm_command(&["test", PROXY, "--timeout", "60s"]);
        let test = test
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut testing = Running(test.spawn().context("cannot start helm")?);
        let mut wait = self.kubectl();
        wait.args([
            "--namespace",
            PROXY,
            "wait",
            "--for=create",
            "--timeout=30s",
        ]);
        output(wait.arg(TEST_POD))?;
        let mut container = self.kubectl();
        container.arg("--kubeconfig").arg(&kubeconfig);
        container.args([
            "--server",
            &format!("https://{address}"),
            "--tls-server-name",
            host,
        ]);
        container.args(self.arguments(TEST_POD, "{.spec.containers[0].args}")?);
        let (succeeded, said) = everything(&mut container)?;
        let phase = if succeeded { "Succeeded" } else { "Failed" };
        let mut patch = self.kubectl();
        patch.args([
            "--namespace",
            PROXY,
            "patch",
            TEST_POD,
            "--subresource",
            "status",
        ]);
        patch.args([
            "--patch",
            &format!(r#"{{"status": {{"phase": "{phase}"}}}}"#),
        ]);
        output(&mut patch)?;
        let passed = testing.0.wait()?.success();
        ensure!(
            succeeded && passed,
            "the container of the test printed: {said}\nhelm: {passed}"
        );
        Ok(())
    }

    /// Writes the files that the kubelet would mount.
    fn write_volumes(&self, volumes: &Path) -> Result<()> {
        let config = self.field("configmap/kube-retry-proxy", r"{.data.config\.yaml}")?;
        write(&volumes.join("kube-retry-proxy/config.yaml"), &config)?;
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let template = format!(r#"go-template={{{{index .data "{name}" | base64decode}}}}"#);
            let mut get = self.kubectl();
            get.args([
                "--namespace",
                PROXY,
                "get",
                "secret/kube-retry-proxy-tls",
                "-o",
            ]);
            let value = output(get.arg(template))?;
            write(&volumes.join("kube-retry-proxy-tls").join(name), &value)?;
            if name == "ca.crt" {
                write(&volumes.join("client/ca.crt"), &value)?;
            }
        }
        let token_file = volumes.join("client/token");
        let kubeconfig = self.field("configmap/kube-retry-proxy-client", "{.data.kubeconfig}")?;
        let kubeconfig = with_token(&kubeconfig, &token_file.display().to_string());
        write(&volumes.join("client/kubeconfig"), &kubeconfig)?;
        let mut token = self.kubectl();
        token.args(["--namespace", PROXY, "create", "token", PROXY]);
        write(&token_file, &output(&mut token)?)
    }

    /// Starts the proxy with the arguments of its container. Returns it with the address on which
    /// it listens.
    fn start_proxy(&self, volumes: &Path) -> Result<(Running, String)> {
        let log = volumes.join("log");
        let servers = read(&self.file("servers"))?;
        let mounted = format!("{}/", volumes.display());
        let arguments = self.arguments(
            "deployment/kube-retry-proxy",
            "{.spec.template.spec.containers[0].args}",
        )?;
        let mut command = Command::new(&self.deploy.proxy);
        command.args(
            arguments
                .iter()
                .map(|argument| argument.replacen("/etc/", &mounted, 1)),
        );
        command.args(["--upstream", servers.lines().next().unwrap_or_default()]);
        command
            .arg("--upstream-ca-file")
            .arg(self.file("pki/ca.crt"));
        command.args(["--bind-address", "127.0.0.1", "--secure-port", "0"]);
        command.args([
            "--admin-bind-address",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]);
        let to = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to);
        let proxy = Running(command.spawn().context("cannot start the proxy")?);
        let until = Instant::now() + LISTENING;
        loop {
            let text = read(&log)?;
            if let Some(address) = listening(&text) {
                return Ok((proxy, address.to_owned()));
            }
            if Instant::now() >= until {
                bail!("the proxy is not listening:\n{text}");
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// A list of strings in an object.
    fn arguments(&self, object: &str, path: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_str(&self.field(object, path)?)?)
    }
}

/// The kubeconfig with a local token file in place of the one in `/var/run/secrets`, which only a
/// pod has.
fn with_token(kubeconfig: &str, file: &str) -> String {
    let lines = kubeconfig
        .lines()
        .map(|line| match line.split_once("/var/run/secrets/") {
            Some((before, rest)) => {
                let end = rest.find(' ').unwrap_or(rest.len());
                format!("{before}{file}{}\n", &rest[end..])
            }
            None => format!("{line}\n"),
        });
    lines.collect()
}

/// The first address in a log of JSON lines. An incomplete line does not count.
fn listening(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once(r#""address":""#)?;
    Some(rest.split_once('"')?.0)
}

/// The host name of the server in a kubeconfig. The URL may be quoted.
fn host_of(kubeconfig: &str) -> Option<&str> {
    let (_, value) = kubeconfig.split_once("server: ")?;
    let rest = value
        .strip_prefix('"')
        .unwrap_or(value)
        .strip_prefix("https://")?;
    rest.split(['/', ':', ',', '"', ' ', '\n']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_comes_from_a_local_file() {
        let kubeconfig = "users:\n- user: { tokenFile: /var/run/secrets/kubernetes.io/token }\n";
        assert_eq!(
            with_token(kubeconfig, "/tmp/token"),
            "users:\n- user: { tokenFile: /tmp/token }\n"
        );
    }

    #[test]
    fn finds_the_host_of_the_server_in_a_kubeconfig() {
        assert_eq!(
            host_of("    server: \"https://a.b.svc:443/x\"\n"),
            Some("a.b.svc")
        );
        assert_eq!(
            host_of("  cluster: {server: https://a, name: b}\n"),
            Some("a")
        );
        assert_eq!(host_of("  - cluster: { server: https://a }\n"), Some("a"));
        assert_eq!(host_of("server: http://a"), None);
    }

    #[test]
    fn an_incomplete_address_is_not_read() {
        assert_eq!(listening(r#"{"address":"127.0.0.1:1"#), None);
        assert_eq!(
            listening(r#"{"address":"127.0.0.1:1"}"#),
            Some("127.0.0.1:1")
        );
    }
}
