//! Other writers of a namespace's quota, through the apiservers that the client under test does not use.

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::Running;

/// Quotas of a contended namespace: each is one more race that a create must win.
pub const QUOTAS: usize = 3;

/// A creator through the other apiservers, and a writer that gives each quota a new revision 60 times a second: on a quiet machine about a
/// third of single creates is refused, and next to none is refused eight times.
///
/// The writer writes to etcd, like one more apiserver that is quick: writers through the apiservers, which pay for a whole request each on
/// the same two processors, win too seldom for twenty workflows to prove anything.
const HOW: [&str; 4] = ["-creators", "1", "-etcd-rate", "60"];

/// Runs until it is stopped or dropped.
pub struct Contention(Running);

impl Contention {
    pub fn start(plane: &ControlPlane, namespace: &str) -> Self {
        let admin = plane.kubeconfig("admin", "apiserver-1");
        let etcd = plane.etcd();
        let mut arguments = vec!["contend", "-kubeconfig", admin.to_str().unwrap(), "-namespace", namespace, "-etcd", &etcd];
        arguments.extend(HOW);
        for server in &plane.servers[1..SERVERS] {
            arguments.extend(["-server", server]);
        }
        let running = plane.driving(&arguments);
        running.says("contending");
        Self(running)
    }

    pub fn stop(self) {
        self.0.stop();
    }
}
