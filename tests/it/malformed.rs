//! Requests and answers that no proxy may forward. Each gets a Status with the reason, and the
//! apiserver never receives it.

mod requests;
mod switches;
mod unusual;

use model_control_plane::Status;

/// Checks that `body` is a Status of the proxy with this code and reason, and returns its message.
pub fn own_status(body: &[u8], code: u16, reason: &str) -> String {
    let status = Status::decode(body)
        .unwrap_or_else(|| panic!("no Status: {:?}", String::from_utf8_lossy(body)));
    assert_eq!(
        (status.code, &*status.reason),
        (i32::from(code), reason),
        "{status:?}"
    );
    assert!(
        status.message.starts_with("kube-retry-proxy: "),
        "{status:?}"
    );
    status.message
}
