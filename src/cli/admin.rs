//! What commands ask a running proxy: one GET of a page of its admin port.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::Error;
use crate::body::{Body, BodyError, collect_bounded};
use crate::connections::socket;

/// For all of it. The admin port answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than the longest list of decisions.
const MAX_ANSWER: u64 = 64 << 20;

/// Why a running proxy told nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens there, or not for us.
    #[error(
        "no connection to {address}; --admin-address names the admin port of a running proxy, as in localhost:8080"
    )]
    Connect {
        /// What was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was given cannot stand in a request.
    #[error("{path:?} cannot be asked of {address:?}")]
    Request {
        /// Where it was to go.
        address: String,
        /// The page.
        path: String,
        /// What is wrong with it.
        source: http::Error,
    },
    /// The exchange failed.
    #[error("{address} did not answer")]
    Exchange {
        /// What was given.
        address: String,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The answer broke off.
    #[error("the answer of {address} is not complete")]
    Body {
        /// What was given.
        address: String,
        /// What went wrong.
        source: BodyError,
    },
    /// It takes too long.
    #[error("{address} did not answer within {TIMEOUT:?}")]
    Slow {
        /// What was given.
        address: String,
    },
    /// Another code than 200, or more than any proxy would tell.
    #[error(
        "{address} answered {status} and not the page {path}; is it the admin port of a kube-retry-proxy?"
    )]
    Answer {
        /// What was given.
        address: String,
        /// The page.
        path: String,
        /// The code.
        status: StatusCode,
    },
    /// The page is none of ours.
    #[error(
        "the page {path} of {address} cannot be understood; is it the admin port of a kube-retry-proxy?"
    )]
    Page {
        /// What was given.
        address: String,
        /// The page.
        path: String,
        /// Where the reading ended.
        source: serde_json::Error,
    },
}

/// The page at `path`, read as JSON, and the address as it was used. `address` is `HOST:PORT`; a
/// scheme before it is left out, and the address of all interfaces means this machine.
pub(super) fn get<T: DeserializeOwned>(address: &str, path: &str) -> Result<T, Error> {
    let address = destination(address);
    let fetched = super::runtime()?.block_on(async {
        let slow = |_| AdminError::Slow {
            address: address.clone(),
        };
        tokio::time::timeout(TIMEOUT, fetch(&address, path))
            .await
            .map_err(slow)?
    })?;
    let page = serde_json::from_slice(&fetched);
    Ok(page.map_err(|source| AdminError::Page {
        address,
        path: path.to_owned(),
        source,
    })?)
}

/// Where to connect to.
fn destination(given: &str) -> String {
    let address = given
        .strip_prefix("http://")
        .unwrap_or(given)
        .trim_end_matches('/');
    match address.rsplit_once(':') {
        Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

async fn fetch(address: &str, path: &str) -> Result<Bytes, AdminError> {
    let failed = |source| AdminError::Exchange {
        address: address.to_owned(),
        source,
    };
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|source| AdminError::Request {
        address: address.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let stream = socket::connect(address)
        .await
        .map_err(|source| AdminError::Connect {
            address: address.to_owned(),
            source,
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Its end is seen through the sender.
    tokio::spawn(connection);
    let (head, mut body) =
        Body::<()>::of_answer(sender.send_request(request).await.map_err(failed)?).into_parts();
    match collect_bounded(&mut body, MAX_ANSWER)
        .await
        .map_err(|source| AdminError::Body {
            address: address.to_owned(),
            source,
        })? {
        Some(whole) if head.status == StatusCode::OK => Ok(whole.data),
        _ => Err(AdminError::Answer {
            address: address.to_owned(),
            path: path.to_owned(),
            status: head.status,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_is_one_to_connect_to() {
        let table = [
            ("localhost:8080", "localhost:8080"),
            ("http://10.0.0.1:8080/", "10.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ];
        table
            .iter()
            .for_each(|(given, expected)| assert_eq!(destination(given), *expected));
    }
}
