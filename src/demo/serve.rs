//! `demo --serve`: runs controllers that create and delete pods until the demo stops, most of them
//! through the proxy, so that the status page has something to show.
//!
//! In two namespaces, one controller uses the proxy and another one does not. A third namespace has
//! little to do, and the quota of a fourth is full most of the time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use tokio::task::JoinSet;

use super::{DemoError, start_proxy};
use crate::config::Pin;
use model_control_plane::client::Endpoint;
use model_control_plane::storm::Connection;
use model_control_plane::{ControlPlane, Settings};

/// How many requests and changes the control plane remembers. The demo does not read them, and it
/// may run for days.
const REMEMBERED: usize = 1000;

/// One controller with a few workers.
struct Controller {
    namespace: &'static str,
    name: &'static str,
    workers: u32,
    /// The longest pause of a worker between two creates.
    pause: Duration,
    /// How many pods of each worker exist at the same time.
    alive: usize,
    proxied: bool,
}

const CONTROLLERS: [Controller; 6] = [
    Controller {
        namespace: "ml-training",
        name: "train",
        workers: 24,
        pause: ms(1200),
        alive: 6,
        proxied: true,
    },
    Controller {
        namespace: "ml-training",
        name: "sweep",
        workers: 8,
        pause: ms(250),
        alive: 4,
        proxied: false,
    },
    Controller {
        namespace: "ci",
        name: "build",
        workers: 10,
        pause: ms(1000),
        alive: 3,
        proxied: true,
    },
    Controller {
        namespace: "ci",
        name: "nightly",
        workers: 4,
        pause: ms(400),
        alive: 3,
        proxied: false,
    },
    Controller {
        namespace: "reports",
        name: "report",
        workers: 1,
        pause: ms(4000),
        alive: 2,
        proxied: true,
    },
    Controller {
        namespace: "crowded",
        name: "job",
        workers: 3,
        pause: ms(6000),
        alive: 5,
        proxied: true,
    },
];

/// Pods that fit into the quota of each namespace.
const QUOTAS: [(&str, u32); 4] = [
    ("ml-training", 10_000),
    ("ci", 10_000),
    ("reports", 100),
    ("crowded", 12),
];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs until `stop` is ready. Calls `announce` with the address of the admin port.
///
/// # Errors
/// Something cannot start.
pub async fn serve(
    stop: impl Future<Output = ()>,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), DemoError> {
    let plane = Arc::new(
        ControlPlane::start(Settings {
            journal: REMEMBERED,
            changes: REMEMBERED,
            ..Settings::default()
        })
        .await?,
    );
    for (namespace, pods) in QUOTAS {
        plane.create_namespace(namespace)?;
        plane.create_quota(namespace, "compute-quota", &[("pods", &pods.to_string())])?;
    }
    let proxy = start_proxy(&plane, Pin::Namespace).await?;
    // The proxy signs its own certificate, so there is a CA.
    let ca = proxy.ca_pem.as_deref().unwrap_or_default();
    let endpoint = |proxied: bool| match proxied {
        true => Endpoint::new(
            &format!("https://{}", proxy.address),
            ca,
            plane.token(),
            Version::HTTP_11,
        ),
        false => Endpoint::new(
            &plane.balanced_url(),
            plane.ca_pem(),
            plane.token(),
            Version::HTTP_11,
        ),
    };
    let mut workers = JoinSet::new();
    for controller in &CONTROLLERS {
        let endpoint = endpoint(controller.proxied)?;
        for worker in 0..controller.workers {
            workers.spawn(work(
                Arc::clone(&plane),
                endpoint.clone(),
                controller,
                worker,
            ));
        }
    }
    announce(proxy.admin_address);
    stop.await;
    workers.shutdown().await;
    proxy.stop().await;
    if let Some(plane) = Arc::into_inner(plane) {
        plane.shutdown().await;
    }
    Ok(())
}

/// Creates pods, and deletes the oldest pod of this worker when it has too many. Never returns.
async fn work(
    plane: Arc<ControlPlane>,
    endpoint: Endpoint,
    controller: &'static Controller,
    worker: u32,
) {
    let mut connection = Connection::new(endpoint);
    let mut alive = VecDeque::new();
    for pod in 0_u64.. {
        tokio::time::sleep(controller.pause.mul_f64(fastrand::f64())).await;
        let name = format!("{}-{worker}-{pod}", controller.name);
        let answer = connection.create_pod(controller.namespace, &name).await;
        if answer.is_some_and(|answer| answer.status == StatusCode::CREATED) {
            alive.push_back(name);
        }
        if alive.len() > controller.alive
            && let Some(oldest) = alive.pop_front()
        {
            // The pod exists: its create was acknowledged, and nothing else deletes it.
            let _ = plane.store().delete_pod(controller.namespace, &oldest);
        }
    }
}
