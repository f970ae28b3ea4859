//! The integration tests: the real proxy on sockets in front of the model control plane. The
//! model's journal shows what really happened.

#![expect(
    unreachable_pub,
    reason = "`pub` says what a test module offers the others"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy takes only what has #[test] for a test"
)]

#[macro_use]
mod cases;

mod architecture;
mod audit;
mod calls;
mod certificates;
mod commands;
mod connections;
mod creates;
mod discovery;
mod documents;
mod drain;
mod events;
mod floods;
mod front_proxy;
mod headers;
mod identity;
mod heads;
mod idle;
mod image;
mod kubeconfigs;
mod kubectl;
mod lanes;
mod loops;
mod malformed;
#[cfg(target_arch = "x86_64")]
mod memory;
mod monitoring;
mod observe;
mod outages;
mod practice;
mod probes;
mod process;
mod reasons;
mod reload;
mod secrets;
mod servers;
mod signals;
mod silence;
mod status;
mod streams;
mod support;
mod traces;
mod upgrades;
