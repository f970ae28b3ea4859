//! The status page, and the commands that show the same data.

mod commands;
mod page;

use http::StatusCode;
use model_control_plane::{Canned, Fault};

use crate::support::{Protocol, Rig, conflict};

/// A proxy with two conflicts that a replay has resolved, one answer that is never replayed, and
/// one throttled create.
async fn experienced() -> Rig {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http1).await;
    rig.faults().next_create(conflict());
    rig.faults().next_create(conflict());
    assert_eq!(client.create("replayed").await.status, StatusCode::CREATED);
    assert_eq!(client.create("plain").await.status, StatusCode::CREATED);
    assert_eq!(client.create("plain").await.status, StatusCode::CONFLICT);
    rig.faults()
        .next_create(Fault::Answer(Canned::throttled(0)));
    assert_eq!(client.create("throttled").await.status, StatusCode::CREATED);
    rig
}
