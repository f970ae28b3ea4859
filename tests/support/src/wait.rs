//! Waiting for what happens soon.

use std::time::Duration;

/// A bound for what takes milliseconds, so that a failing test ends; above what a busy machine may
/// need.
const SOON: Duration = Duration::from_secs(30);

/// Fails the test when something does not happen, instead of hanging.
pub async fn soon<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, happening)
        .await
        .expect("it happens soon")
}

/// Waits until `reached` holds: for what another task does soon, without sleeping for a guessed
/// time.
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
