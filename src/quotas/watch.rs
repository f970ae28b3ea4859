//! Lists and then watches the ResourceQuotas of one namespace, with the proxy's own token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::limits::{self, Update};
use super::{Namespace, Quotas, Watching, lock};
use crate::body::{Body, BodyError, collect_bounded};
use crate::telemetry::chain;
use crate::upstream::{LaneKind, Lease, LineError, SendError, TokenError, WatchLines, bearer};

/// How long one watch lasts. The apiserver itself ends watches after 30 to 60 minutes.
const WATCH_SECONDS: u32 = 600;
/// A quota has a few kilobytes.
const MAX_RESPONSE: u64 = 1 << 20;
/// How long the apiserver may take for the list.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the same failure is logged.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The last failure of any watch, so that a cause that holds for all of them is logged once.
#[derive(Debug, Default)]
pub(super) struct Failing(Option<(String, Instant)>);

impl Failing {
    /// Whether to log this failure.
    fn is_new(&mut self, error: &str) -> bool {
        let known = self.0.as_ref();
        if known.is_some_and(|(last, then)| last == error && then.elapsed() < LOG_AGAIN_AFTER) {
            return false;
        }
        self.0 = Some((error.to_owned(), Instant::now()));
        true
    }
}

/// Why the quotas of a namespace are not known.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the apiserver did not answer")]
    Send(#[from] SendError),
    #[error("the apiserver did not answer within {LIST_TIMEOUT:?}")]
    Timeout,
    #[error(
        "the apiserver answered {0}; the token must be allowed to list and watch resourcequotas"
    )]
    Refused(StatusCode),
    #[error("the answer broke off")]
    Broken(#[from] BodyError),
    #[error(transparent)]
    Lines(#[from] LineError),
    #[error("the answer has no quotas")]
    Json(#[from] serde_json::Error),
    #[error("the list has more than {MAX_RESPONSE} bytes")]
    TooLarge,
}

/// Keeps the queue of the namespace up to date, and wakes its creates. Never returns.
pub(super) async fn run(watching: Watching, namespace: Arc<Namespace>, token_file: PathBuf) {
    let quotas = &*watching.0;
    let _open = quotas.metrics.quota_watch();
    tokio::select! {
        () = namespace.wake() => {}
        () = follow(quotas, &namespace, &token_file) => {}
    }
}

async fn follow(quotas: &Quotas, namespace: &Namespace, token_file: &Path) {
    let mut pause = FIRST_PAUSE;
    loop {
        match once(quotas, namespace, token_file, &mut pause).await {
            Ok(()) => debug!(namespace = &*namespace.name, "Listing the quotas again"),
            Err(error) => {
                namespace.change(super::Queue::lost);
                quotas.metrics.quota_watch_failed();
                let error = chain(&error).to_string();
                if lock(&quotas.failing).is_new(&error) {
                    warn!(
                        error,
                        namespace = &*namespace.name,
                        "Cannot watch quotas: creates that wait for a full quota poll"
                    );
                }
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Lists, then watches until the watch cannot continue.
async fn once(
    quotas: &Quotas,
    namespace: &Namespace,
    token_file: &Path,
    pause: &mut Duration,
) -> Result<(), WatchError> {
    let path = format!("/api/v1/namespaces/{}/resourcequotas", namespace.name);
    let list = async {
        let answer = get(quotas, LaneKind::Call, &path, token_file).await?;
        let whole = collect_bounded(&mut answer.into_body(), MAX_RESPONSE).await?;
        Ok::<_, WatchError>(limits::list(&whole.ok_or(WatchError::TooLarge)?.data)?)
    };
    let (all, mut version) = tokio::time::timeout(LIST_TIMEOUT, list)
        .await
        .unwrap_or(Err(WatchError::Timeout))?;
    namespace.change(|queue| queue.list(all));
    loop {
        let query = format!(
            "?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        );
        let watch = get(
            quotas,
            LaneKind::Stream,
            &format!("{path}{query}"),
            token_file,
        )
        .await?;
        let mut lines = WatchLines::of(watch, MAX_RESPONSE);
        while let Some(line) = lines.next().await? {
            *pause = FIRST_PAUSE;
            let (update, its_version) = limits::update(&line)?;
            match update {
                Update::Is(name, limits) => namespace.change(|queue| queue.changed(name, limits)),
                Update::Gone(name) => namespace.change(|queue| queue.gone(&name)),
                Update::Nothing => {}
                Update::ListAgain => return Ok(()),
            }
            version = its_version;
        }
        // If every watch ends as soon as it begins, this pause bounds the requests.
        tokio::time::sleep(FIRST_PAUSE.mul_f64(fastrand::f64())).await;
    }
}

async fn get(
    quotas: &Quotas,
    lane: LaneKind,
    path: &str,
    token_file: &Path,
) -> Result<Response<Body<Lease>>, WatchError> {
    let token = bearer(token_file).await?;
    let mut request = Box::new(Request::new(Body::empty()));
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, token);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = quotas.upstream.send(lane, request).await?;
    if answer.status() == StatusCode::OK {
        Ok(answer)
    } else {
        Err(WatchError::Refused(answer.status()))
    }
}
