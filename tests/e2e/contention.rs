//! Other writers of a namespace's quota, through the apiservers that the client under test does not use.

use crate::control_plane::ControlPlane;
use crate::process::Running;

/// Status writers and creators. Enough that a good part of single creates elsewhere are refused, and few enough that several
/// attempts in a row seldom are.
const WRITERS: usize = 12;
const CREATORS: usize = 12;

/// Runs until it is stopped or dropped.
pub struct Contention(Running);

impl Contention {
    pub fn start(plane: &ControlPlane, namespace: &str) -> Self {
        let admin = plane.kubeconfig("admin", "apiserver-1");
        let (writers, creators) = (WRITERS.to_string(), CREATORS.to_string());
        let mut arguments = vec!["contend", "-kubeconfig", admin.to_str().unwrap(), "-namespace", namespace];
        arguments.extend(["-writers", &writers, "-creators", &creators]);
        for server in &plane.servers[1..crate::control_plane::SERVERS] {
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
