//! Other writers to the quota of a namespace, in addition to the client under test.

use crate::control_plane::ControlPlane;
use crate::process::Running;

/// The quotas of a contended namespace. A create has to win a race for each one.
pub const QUOTAS: usize = 3;

/// A creator at the apiserver of the client under test, one at another apiserver, and a writer that
/// gives each quota a new revision so often that a fifth of their creates is refused. Of twenty
/// attempts some are refused then, and hardly any eight times in a row.
///
/// The writer writes directly to etcd, like one more fast apiserver. A writer that goes through an
/// apiserver pays for a whole request on the same two CPUs, and wins too rarely for twenty
/// workflows to prove anything.
const HOW: [&str; 6] = ["-creators", "2", "-etcd-rate", "60", "-refuse", "0.2"];

/// Runs until it is stopped or dropped.
pub struct Contention(Running);

impl Contention {
    pub fn start(plane: &ControlPlane, namespace: &str) -> Self {
        let admin = plane.kubeconfig("admin", "apiserver-1");
        let etcd = plane.etcd();
        let mut arguments = vec![
            "contend",
            "-kubeconfig",
            admin.to_str().unwrap(),
            "-namespace",
            namespace,
            "-etcd",
            &etcd,
        ];
        arguments.extend(HOW);
        for server in &plane.servers[..2] {
            arguments.extend(["-server", server]);
        }
        let running = plane.driving(&arguments);
        running.says("contending");
        Self(running)
    }

    pub fn stop(self) {
        eprintln!("contention: {}", self.0.stop());
    }
}
