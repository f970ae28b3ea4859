//! Asks a server whether it is ready, over a separate connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::super::connect::Connector;
use super::super::health::ProbeAnswer;
use super::super::lane::Lane;
use super::origin::Origin;
use crate::body::{Body, collect_bounded};
use crate::telemetry::chain;
use crate::verdict::{Class, classify};

/// How long an answer may take, once there is a connection. A healthy apiserver answers in milliseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// More than a failing `/readyz`, which lists its checks.
const MAX_PROBE_RESPONSE: u64 = 64 << 10;

pub(super) struct Prober {
    connector: Arc<Connector>,
    /// False once the server has answered 401 to a probe without credentials.
    anonymous: AtomicBool,
    /// The connection, between two probes.
    connection: Mutex<Option<http1::SendRequest<Body>>>,
}

impl Prober {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            anonymous: true.into(),
            connection: Mutex::default(),
        }
    }

    /// Probes once. `calls` is the server's lane for calls. The error says in words why the server
    /// is not ready.
    ///
    /// `/readyz` fails as soon as a shutdown is announced, before connections break. A server with
    /// `--anonymous-auth=false` answers 401, which shows that it is alive. Later probes of such a
    /// server only connect.
    /// <https://kubernetes.io/docs/reference/using-api/health-checks/>
    pub(super) async fn probe(
        &self,
        origin: &Origin,
        calls: &Arc<Lane>,
    ) -> Result<ProbeAnswer, String> {
        if !self.anonymous.load(Ordering::Relaxed) {
            return calls
                .acquire()
                .await
                .map(|_lease| ProbeAnswer::Alive)
                .map_err(|error| chain(&*error).to_string());
        }
        let kept = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sender) = kept
            && let Ok(answered) = self.ask(sender, origin).await
        {
            return answered;
        }
        // There is no connection, or the server has closed it meanwhile. Connecting has its own
        // timeout, whose error says more.
        let connected = self.connector.http1().await;
        let sender = connected.map_err(|error| chain(&error).to_string())?;
        let answered = self.ask(sender, origin).await;
        answered.unwrap_or_else(|error| Err(chain(&error).to_string()))
    }

    /// Asks over this connection. The outer error means that there is no response, and perhaps only
    /// because the connection was closed.
    ///
    /// The probe has a separate HTTP/1.1 connection, because kube-apiserver closes an HTTP/2
    /// connection after a request without credentials, even if other requests use it.
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/authentication.go#L110-L122>
    async fn ask(
        &self,
        mut sender: http1::SendRequest<Body>,
        origin: &Origin,
    ) -> hyper::Result<Result<ProbeAnswer, String>> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static("/readyz");
        origin.address(&mut request, false);
        let exchange = async {
            let response = sender.send_request(request).await?;
            Ok(self.read(sender, response).await)
        };
        tokio::time::timeout(PROBE_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| {
                Ok(Err(format!(
                    "/readyz was not answered within {PROBE_TIMEOUT:?}"
                )))
            })
    }

    /// Reads the response, and keeps the connection.
    async fn read(
        &self,
        sender: http1::SendRequest<Body>,
        response: Response<Incoming>,
    ) -> Result<ProbeAnswer, String> {
        let (head, mut body) = Body::<()>::of_answer(response).into_parts();
        // The connection can be used again only when the body has been read to its end.
        let body = match collect_bounded(&mut body, MAX_PROBE_RESPONSE).await {
            Ok(body) => body.unwrap_or_default().data,
            Err(error) => return Err(chain(&error).to_string()),
        };
        if head.status == StatusCode::UNAUTHORIZED {
            self.anonymous.store(false, Ordering::Relaxed);
        } else {
            *self
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
        match (
            classify(head.status, &head.headers, &body).class,
            head.status,
        ) {
            (Class::ShuttingDown, _) => Err("it is shutting down".to_owned()),
            (Class::StartingUp, _) => Err("it is starting up".to_owned()),
            (_, StatusCode::LOOP_DETECTED) => Err("it leads back to this proxy".to_owned()),
            // The probe does not ask for a 101.
            (_, status) if status.is_server_error() || status.is_informational() => {
                Err(format!("/readyz answered {status}"))
            }
            (_, status) if status.is_success() => Ok(ProbeAnswer::Ready),
            (_, StatusCode::FORBIDDEN) => Ok(ProbeAnswer::Forbidden),
            // For example a server that is busy.
            _ => Ok(ProbeAnswer::Alive),
        }
    }
}
