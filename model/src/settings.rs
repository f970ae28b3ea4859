//! The settings of a control plane.

use std::time::Duration;

use crate::dice::Dice;
use crate::informer::Lag;
use crate::machine::Costs;
use crate::store;

/// The size of the control plane and the times of its work. The defaults are calibrated on a real
/// control plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of apiservers, at least one.
    pub apiservers: usize,
    /// The mean time until a change in the store reaches a watch or an informer. For informers it
    /// is exponentially distributed.
    pub watch_latency: Duration,
    /// The time that each task on the shared CPUs adds to the way of a change to an informer.
    pub event_time: Duration,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of HTTP/2 connections.
    pub max_streams: u32,
    /// CPU time of one request. All apiservers share the CPUs.
    pub handler_time: Duration,
    /// CPU time of one status update of a quota.
    pub update_time: Duration,
    /// Latency of a consistent read from etcd.
    pub read_time: Duration,
    /// Mean latency of a write to etcd, with a jitter of half.
    pub write_time: Duration,
    /// The accepted bearer tokens.
    pub tokens: Vec<String>,
    /// Whether the servers offer HTTP/1.1 only.
    pub http1_only: bool,
    /// Whether every apiserver has its own address (127.0.0.1, 127.0.0.2 and so on) and all have
    /// the same port, as in a cluster. Some systems do not have these addresses.
    pub own_addresses: bool,
    /// The idle time after which an HTTP/1.1 connection is closed.
    pub idle_timeout: Duration,
    /// The interval at which the quota controller recalculates every quota.
    pub resync: Duration,
    /// The rate limit of the quota controller: writes per second, and burst.
    pub controller_rate: (u32, u32),
    /// The number of requests that the journal keeps.
    pub journal: usize,
    /// The number of changes of pods and of quotas that watches can still read.
    pub changes: usize,
    /// The seed of jitter, uids and generated names.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            apiservers: 3,
            watch_latency: Duration::from_micros(500),
            event_time: Duration::from_micros(50),
            max_streams: 100,
            handler_time: Duration::from_micros(1200),
            update_time: Duration::from_millis(1),
            read_time: Duration::from_micros(900),
            write_time: Duration::from_millis(9),
            tokens: vec!["model-token".to_owned()],
            http1_only: false,
            own_addresses: false,
            idle_timeout: Duration::from_secs(90),
            resync: Duration::from_secs(300),
            controller_rate: (20, 30),
            journal: usize::MAX,
            changes: store::LOG_LENGTH,
            seed: Dice::any_seed(),
        }
    }
}

impl Settings {
    /// Settings in which nothing takes time and every cache is current, so that conflicts are rare.
    /// For tests of other subjects.
    pub fn quick() -> Settings {
        Settings {
            watch_latency: Duration::ZERO,
            event_time: Duration::ZERO,
            handler_time: Duration::ZERO,
            update_time: Duration::ZERO,
            read_time: Duration::ZERO,
            write_time: Duration::ZERO,
            ..Settings::default()
        }
    }

    /// The lag of a new informer.
    pub(crate) fn lag(&self, dice: &Dice) -> Lag {
        Lag {
            mean: self.watch_latency,
            shared: self.event_time,
            salt: dice.next(),
        }
    }

    pub(crate) fn costs(&self) -> Costs {
        Costs {
            request: self.handler_time,
            update: self.update_time,
            read: self.read_time,
            write: self.write_time,
        }
    }
}
