//! What the tests share, in a package of its own: `tests/support`.

pub use kube_retry_proxy_support::*;
