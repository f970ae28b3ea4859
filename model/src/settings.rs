//! How a control plane is built.

use std::time::Duration;

use crate::dice::Dice;
use crate::informer::Lag;
use crate::machine::Costs;
use crate::store;

/// How the control plane is built and how long things take in it. The default is calibrated on a
/// real one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many apiservers, at least one.
    pub apiservers: usize,
    /// Mean time until a change in the store reaches a watch or, exponentially distributed, an
    /// informer.
    pub watch_latency: Duration,
    /// What everybody who shares the processors adds to that on the way to an informer.
    pub event_time: Duration,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of HTTP/2 connections.
    pub max_streams: u32,
    /// Processor time of one request; all apiservers share the processors.
    pub handler_time: Duration,
    /// Processor time of one status update of a quota.
    pub update_time: Duration,
    /// Latency of a consistent read from etcd.
    pub read_time: Duration,
    /// Mean latency of a write to etcd, jittered by half.
    pub write_time: Duration,
    /// Accepted bearer tokens.
    pub tokens: Vec<String>,
    /// Offer no HTTP/2.
    pub http1_only: bool,
    /// Every apiserver has an address of its own, 127.0.0.1, 127.0.0.2 and so on, and all have the
    /// same port, as in a cluster. Not on every system are these addresses there.
    pub own_addresses: bool,
    /// After this long without a request an HTTP/1.1 connection is closed.
    pub idle_timeout: Duration,
    /// How often the quota controller recalculates everything.
    pub resync: Duration,
    /// Quota writes per second and at once that the quota controller allows itself.
    pub controller_rate: (u32, u32),
    /// How many of the last requests the journal keeps.
    pub journal: usize,
    /// How many of the last changes of pods and of quotas stay readable to watches.
    pub changes: usize,
    /// Chooses jitter, uids and generated names.
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
    /// Nothing takes any time, and every cache is current, so that next to nobody loses a race: for
    /// tests that are about something else.
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

    /// The lag of one more informer.
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
