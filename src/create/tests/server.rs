//! Apiservers that answer as a run says, without sockets, and note each attempt that reaches them.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::DuplexStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{CREATED, Reply, Row};
use crate::upstream::{Scripted, refused_stream};

/// The header that names the create, by its index in the run.
pub(super) const INDEX: &str = "x-create";

/// Larger than what is judged.
const LARGE: usize = (64 << 10) + 1;

/// An attempt that reached a server with its whole body.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) create: usize,
    pub(super) at: Instant,
    pub(super) timeout: Option<Duration>,
    pub(super) body: Bytes,
    pub(super) reply: Reply,
    /// When it was answered. None: it was not, or not to the end.
    pub(super) answered: Option<Instant>,
}

/// What all servers of a run share.
pub(super) struct Script {
    replies: Vec<Vec<(Reply, u64)>>,
    pub(super) arrived: Mutex<Vec<Arrived>>,
}

impl Script {
    pub(super) fn new(replies: Vec<Vec<(Reply, u64)>>) -> Arc<Script> {
        Arc::new(Script {
            replies,
            arrived: Mutex::default(),
        })
    }
}

/// One server.
pub(super) struct Server {
    script: Arc<Script>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    down: Option<Down>,
    /// Breaks the connections that are open.
    connections: CancellationToken,
}

#[derive(Clone, Copy)]
enum Down {
    Refusing,
    Silent,
}

impl Server {
    pub(super) fn new(script: &Arc<Script>) -> Arc<Server> {
        Arc::new(Server {
            script: Arc::clone(script),
            state: Mutex::default(),
        })
    }

    pub(super) fn down(&self, silent: bool) {
        let mut state = self.state.lock().unwrap();
        state.down = Some(if silent { Down::Silent } else { Down::Refusing });
        std::mem::take(&mut state.connections).cancel();
    }

    pub(super) fn up(&self) {
        self.state.lock().unwrap().down = None;
    }

    pub(super) fn scripted(self: &Arc<Self>, http2: bool) -> Scripted {
        let server = Arc::clone(self);
        Scripted {
            http2,
            dial: Box::new(move |http2| {
                let dialled = Arc::clone(&server).connect(http2);
                Box::pin(async move {
                    match dialled {
                        Ok(stream) => Ok(stream),
                        Err(Down::Refusing) => Err(io::ErrorKind::ConnectionRefused.into()),
                        Err(Down::Silent) => std::future::pending().await,
                    }
                })
            }),
        }
    }

    fn connect(self: Arc<Self>, http2: bool) -> Result<DuplexStream, Down> {
        let broken = {
            let state = self.state.lock().unwrap();
            if let Some(down) = state.down {
                return Err(down);
            }
            state.connections.child_token()
        };
        let (near, far) = tokio::io::duplex(16 << 10);
        tokio::spawn(async move {
            let service = service_fn(|request| Arc::clone(&self).answer(request, broken.clone()));
            let io = TokioIo::new(far);
            let served = async {
                // What breaks a connection is part of the script.
                match http2 {
                    true => drop(
                        http2::Builder::new(TokioExecutor::new())
                            .timer(TokioTimer::new())
                            .serve_connection(io, service)
                            .await,
                    ),
                    false => drop(http1::Builder::new().serve_connection(io, service).await),
                }
            };
            broken.run_until_cancelled(served).await;
        });
        Ok(near)
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: CancellationToken,
    ) -> Result<Response<Scroll>, Box<dyn Error + Send + Sync>> {
        let Some(create) = request.headers().get(INDEX) else {
            return Ok(Response::new(Scroll::whole("ok".into())));
        };
        let create: usize = create.to_str().unwrap().parse().unwrap();
        let timeout = request.uri().query().map(|query| {
            let millis = query.strip_prefix("timeout=").unwrap();
            Duration::from_millis(millis.strip_suffix("ms").unwrap().parse().unwrap())
        });
        let body = request.into_body().collect().await?.to_bytes();
        let (place, (reply, after)) = {
            let mut arrived = self.script.arrived.lock().unwrap();
            let earlier = arrived.iter().filter(|each| each.create == create).count();
            let planned = self.script.replies[create].get(earlier);
            let (reply, after) = *planned.unwrap_or(&(Reply::Answer(CREATED, None), 1));
            arrived.push(Arrived {
                create,
                at: Instant::now(),
                timeout,
                body,
                reply,
                answered: None,
            });
            (arrived.len() - 1, (reply, after))
        };
        tokio::time::sleep(Duration::from_millis(after)).await;
        let response = |row: &Row, body: Scroll| {
            let mut response = Response::new(body);
            *response.status_mut() = row.code.try_into().unwrap();
            response
        };
        let answer = match reply {
            Reply::Answer(row, asked) => {
                let mut answer = response(row, Scroll::whole(row.body()));
                if let Some(seconds) = asked {
                    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
                }
                answer
            }
            Reply::Large(row) => response(row, Scroll::whole(padded(row.body()))),
            Reply::Truncated(row) => {
                return Ok(response(row, Scroll::half(row.body(), connection)));
            }
            Reply::Refused => return Err(refused_stream()),
            Reply::Silent => std::future::pending().await,
            Reply::Lost => {
                connection.cancel();
                std::future::pending().await
            }
        };
        self.script.arrived.lock().unwrap()[place].answered = Some(Instant::now());
        Ok(answer)
    }
}

/// A body that is too large to be judged.
pub(super) fn padded(mut body: String) -> String {
    body.extend(std::iter::repeat_n(' ', LARGE));
    body
}

/// The body of a scripted answer.
pub(super) struct Scroll {
    data: Option<Bytes>,
    length: u64,
    /// Broken after the data.
    breaks: Option<CancellationToken>,
}

impl Scroll {
    fn whole(data: String) -> Scroll {
        Scroll {
            length: data.len() as u64,
            data: Some(data.into()),
            breaks: None,
        }
    }

    fn half(data: String, connection: CancellationToken) -> Scroll {
        let half = data.len() / 2;
        Scroll {
            // An empty answer must break off too.
            length: data.len() as u64 + 1,
            data: Some(Bytes::from(data).slice(..half)),
            breaks: Some(connection),
        }
    }
}

impl HttpBody for Scroll {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.breaks.take() {
            None => Poll::Ready(None),
            Some(connection) => {
                // The data before is written first.
                let waker = context.waker().clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    connection.cancel();
                    waker.wake();
                });
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
