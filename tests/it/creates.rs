//! Creates: replayed while that is safe, and ended in the apiserver's own answer.

use http::StatusCode;
use kube_retry_proxy::model::{Canned, Fault};

use crate::support::{BOTH, Rig, sample};

const QUOTA_CONFLICT: &[u8] = include_bytes!("../samples/quota_conflict_409.http");

fn conflict() -> Fault {
    Fault::Answer(Canned::captured(QUOTA_CONFLICT).unwrap())
}

#[tokio::test]
async fn replays_a_quota_conflict_until_the_pod_is_created() {
    for protocol in BOTH {
        let rig = Rig::new().await;
        let faults = rig.plane.faults(0).unwrap();
        faults.next_create(conflict());
        faults.next_create(conflict());
        let answer = rig.client(protocol).await.create("a").await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(rig.plane.journal().creates().len(), 3);
        assert_eq!(rig.plane.pods("team").len(), 1);
        assert_eq!(sample(&rig.proxy, "kube_retry_proxy_conflicts_total{class=\"quota_conflict\",namespace=\"team\"}"), 2.0);
        assert_eq!(sample(&rig.proxy, "kube_retry_proxy_replays_total{class=\"quota_conflict\"}"), 2.0);
        rig.stop().await;
    }
}
