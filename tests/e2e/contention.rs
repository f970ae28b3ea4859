//! Other writers of a namespace's quota, through the apiservers that the client under test does not use.

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::Running;

/// Quotas of a contended namespace: each is one more race that a create must win.
pub const QUOTAS: usize = 5;

/// Creators through the other apiservers, and a writer that gives each quota a new revision 200 times a second, for four of every six
/// seconds: while it writes hardly any create passes, and whoever holds a create for some seconds gets it through.
///
/// The writer writes to etcd, like one more apiserver that is quick: writers through the apiservers, which pay for a whole request each on
/// the same two processors, win too seldom for twenty workflows to prove anything.
const HOW: [&str; 6] = ["-creators", "4", "-burst", "4s", "-pause", "2s"];

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
