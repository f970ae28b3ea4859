//! Requests and answers that no proxy may pass on: each is answered by a Status that says why, and
//! the apiserver never sees it.

mod requests;
mod switches;

use model_control_plane::Status;

/// Fails unless `body` is a Status of the proxy's own of this code and reason; its sentence.
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
