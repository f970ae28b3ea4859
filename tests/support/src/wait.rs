//! Waiting with a limit, so that a test fails instead of hanging.

use std::time::Duration;

/// The limit for waits that normally take milliseconds. It is long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Fails the test if the future does not complete soon.
pub async fn soon<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, happening)
        .await
        .expect("the future completes within half a minute")
}

/// Waits until `reached` returns true. For the work of other tasks, instead of a sleep of a guessed
/// length.
pub async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("did not happen: {what}"));
}
