//! The shared test code, which is the package `tests/support`.

pub use kube_retry_proxy_support::*;
