//! Settings and certificates that change while the proxy runs. An invalid change has no effect.

mod certificates;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use kube_retry_proxy::app::{self, App, ConfigSource};
use kube_retry_proxy::cli::serve::{self, ServeArgs};
use kube_retry_proxy::cli::{Cli, Command};
use serde_json::Value;

use crate::support::executable::Place;
use crate::support::{Client, Protocol, admin, eventually, sample};

fn parsed(flags: &[&str]) -> ServeArgs {
    match Cli::parse_from(["kube-retry-proxy", "serve"].iter().chain(flags)).command {
        Command::Serve(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// A proxy in this process that checks its files every few milliseconds.
struct Reloading {
    proxy: App,
    looks: Arc<AtomicUsize>,
}

impl Reloading {
    async fn start(args: ServeArgs) -> Self {
        let looks = Arc::new(AtomicUsize::new(0));
        let config = serve::load(&args).unwrap();
        let count = Arc::clone(&looks);
        let mut source = ConfigSource::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(serve::load(&args)?)
        });
        source.every = Duration::from_millis(5);
        Self {
            proxy: app::start(config, Some(source)).await.unwrap(),
            looks,
        }
    }

    /// A proxy with only a configuration file.
    async fn of_file(path: &str) -> Self {
        Self::start(parsed(&[&format!("--config={path}")])).await
    }

    /// Waits until the proxy has checked the files again, at least twice.
    async fn looked_again(&self) {
        let enough = self.looks.load(Ordering::SeqCst) + 3;
        eventually("further looks at the file", || {
            self.looks.load(Ordering::SeqCst) >= enough
        })
        .await;
    }

    fn reloads(&self, what: &str, result: &str) -> f64 {
        sample(
            &self.proxy,
            &format!("kube_retry_proxy_reloads_total{{result=\"{result}\",what=\"{what}\"}}"),
        )
    }

    async fn configz(&self) -> Value {
        admin::get(self.proxy.admin_address, "/configz")
            .await
            .json()
    }

    async fn client(&self, place: &Place) -> Client {
        Client::connect(
            self.proxy.address,
            &place.read("ca.crt"),
            place.plane.token(),
            Protocol::Http1,
        )
        .await
    }
}
