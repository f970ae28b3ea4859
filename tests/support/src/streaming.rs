//! Bodies in pieces: requests whose frames the test sends, and answers that are read event by
//! event.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model_control_plane::envelope::next_watch_event;
use tokio::sync::mpsc;

use crate::{Client, NAMESPACE, soon};

/// A request body whose frames the test sends.
pub struct Fed(mpsc::Receiver<Frame<Bytes>>);

/// The sender for [`Fed`]. The body ends when this is dropped.
pub struct Feeder(mpsc::Sender<Frame<Bytes>>);

impl Fed {
    pub fn new() -> (Feeder, Self) {
        let (feeder, fed) = mpsc::channel(64);
        (Feeder(feeder), Self(fed))
    }

    /// A body of these chunks and trailers, without a declared length.
    pub async fn whole(
        chunks: impl IntoIterator<Item = Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Self {
        let (feeder, fed) = Self::new();
        for chunk in chunks {
            feeder.chunk(chunk).await;
        }
        if let Some(trailers) = trailers {
            feeder.0.send(Frame::trailers(trailers)).await.unwrap();
        }
        fed
    }
}

impl Feeder {
    pub async fn chunk(&self, data: impl Into<Bytes>) {
        self.0.send(Frame::data(data.into())).await.unwrap();
    }
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// An answer that is read while it arrives.
pub struct Streamed {
    pub head: http::response::Parts,
    body: Incoming,
    read: Vec<u8>,
}

impl Streamed {
    /// Starts a watch on the pods of [`NAMESPACE`], or another stream at `path`.
    pub async fn open(client: &mut Client, path: &str, accept: &str) -> Self {
        let mut request = client.request(Method::GET, path, "");
        request
            .headers_mut()
            .insert(http::header::ACCEPT, accept.parse().unwrap());
        Self::of(soon(client.send(request)).await)
    }

    pub fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        assert!(head.status.is_success(), "{head:?}");
        Self {
            head,
            body,
            read: Vec::new(),
        }
    }

    /// The next line, without its line break.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(self.more().await, "the stream ended");
        }
    }

    /// The type of the next JSON event and the name of its object.
    pub async fn event(&mut self) -> (String, String) {
        let event: serde_json::Value = serde_json::from_str(&self.line().await).unwrap();
        let text = |pointer| {
            event
                .pointer(pointer)
                .and_then(serde_json::Value::as_str)
                .unwrap()
                .to_owned()
        };
        (text("/type"), text("/object/metadata/name"))
    }

    /// The type of the next protobuf event and its object.
    pub async fn protobuf_event(&mut self) -> (String, Bytes) {
        loop {
            let mut stream = Bytes::copy_from_slice(&self.read);
            if let Some(event) = next_watch_event(&mut stream) {
                self.read = stream.into();
                return event;
            }
            assert!(self.more().await, "the stream ended");
        }
    }

    /// Reads the remaining bytes until the end.
    pub async fn rest(mut self) -> Vec<u8> {
        while self.more().await {}
        self.read
    }

    async fn more(&mut self) -> bool {
        let Some(frame) = soon(self.body.frame()).await else {
            return false;
        };
        self.read
            .extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
        true
    }
}

/// The path of a watch on the pods of [`NAMESPACE`].
pub fn watch_path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=true")
}
