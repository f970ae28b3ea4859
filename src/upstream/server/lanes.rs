//! The connections to one server that show the same certificate, or none: a lane for each kind of
//! request, and connections for upgrades.

use std::sync::Arc;

use super::super::LaneKind;
use super::super::connect::Connector;
use super::super::lane::{Lane, LaneProfile};
use super::super::pins::Key;
use super::super::upgrades::UpgradeConnections;
use crate::config::{self, Pin};
use crate::metrics::Metrics;

/// The window is small, because responses to creates are.
const CREATE: LaneProfile = LaneProfile {
    name: "create",
    spread: 1,
    window: 64 << 10,
    max_requests: usize::MAX,
};
/// Calls include lists of megabytes. This window allows 256 MiB/s for one list at a round trip of a
/// millisecond.
const CALL: LaneProfile = LaneProfile {
    name: "call",
    spread: 1,
    window: 256 << 10,
    max_requests: usize::MAX,
};
/// Watches and logs are slow, but there are many of them, and their readers can be slow. Each
/// cancelled one can use up some of the small frames that h2 allows over the life of a connection
/// (see `connect::handshake::CONNECTION_WINDOW`), so the lane replaces its connections.
const STREAM: LaneProfile = LaneProfile {
    name: "stream",
    spread: 1,
    window: 64 << 10,
    max_requests: 1000,
};

pub(in crate::upstream) struct Lanes {
    pub(super) connector: Arc<Connector>,
    /// The slots for creates. Each uses one connection for as long as its streams suffice.
    creates: Box<[(Key, Arc<Lane>)]>,
    call: Arc<Lane>,
    stream: Arc<Lane>,
    pub(super) upgrades: UpgradeConnections,
}

impl Lanes {
    /// No connection yet. The first request dials.
    pub(super) fn new(
        connector: Arc<Connector>,
        settings: &config::UpstreamConfig,
        metrics: &Metrics,
    ) -> Self {
        let lane = |profile: LaneProfile| {
            Lane::new(
                profile,
                Arc::clone(&connector),
                settings,
                metrics.lane(profile.name),
            )
        };
        let connections = settings.connections_per_lane.size();
        // Several apiservers can share one address, and then only a connection identifies one of
        // them. If each apiserver has its own address, one connection would make the creates of a
        // namespace queue: they would arrive in smaller batches and cost more quota writes.
        let one_address = settings.discover.is_none() && settings.addresses().len() == 1;
        let (slots, spread) = match settings.pin {
            Pin::Namespace if one_address => (connections, 1),
            Pin::Namespace | Pin::None => (1, connections),
        };
        Self {
            creates: (0..slots)
                .map(|slot| {
                    let profile = LaneProfile { spread, ..CREATE };
                    (Key::of(&slot.to_string()), lane(profile))
                })
                .collect(),
            call: lane(LaneProfile {
                spread: connections,
                ..CALL
            }),
            stream: lane(LaneProfile {
                spread: connections,
                ..STREAM
            }),
            upgrades: UpgradeConnections::new(),
            connector,
        }
    }

    /// The lane for the creates of a namespace.
    pub(in crate::upstream) fn slot(&self, namespace: Key) -> &Arc<Lane> {
        // There is always a slot. If there were none, the lane for calls would serve.
        namespace
            .choose(self.creates.iter().map(|(key, lane)| (*key, lane)))
            .unwrap_or(&self.call)
    }

    pub(in crate::upstream) fn lane(&self, kind: LaneKind) -> &Arc<Lane> {
        match kind {
            LaneKind::Call => &self.call,
            LaneKind::Stream => &self.stream,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.creates
            .iter()
            .map(|(_, lane)| lane)
            .chain([&self.call, &self.stream])
    }

    pub(super) fn retire_connections(&self) {
        self.all().for_each(|lane| lane.retire_connections());
        self.upgrades.clear();
    }
}
