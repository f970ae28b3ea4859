//! Reads one page from the admin port of a running proxy.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::CliError;
use crate::body::{Body, BodyError, collect_bounded};
use crate::connections::socket;

/// How long connecting and reading may take. The admin port answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest page that is read. The longest list of decisions is smaller.
const MAX_ANSWER: u64 = 64 << 20;

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing accepts connections at the address.
    #[error(
        "cannot connect to {address}; --admin-address must be the admin port of a running proxy, like localhost:8080"
    )]
    Connect {
        /// The address that was used.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The address or the path cannot be part of a request.
    #[error("cannot ask {address:?} for {path:?}")]
    Request {
        /// The address that was used.
        address: String,
        /// The path of the page.
        path: String,
        /// Why they cannot be part of a request.
        source: http::Error,
    },
    /// The connection failed before the answer.
    #[error("{address} did not answer")]
    Exchange {
        /// The address that was used.
        address: String,
        /// The error of the connection.
        source: hyper::Error,
    },
    /// The answer broke off.
    #[error("the answer of {address} is not complete")]
    Body {
        /// The address that was used.
        address: String,
        /// The error of the connection.
        source: BodyError,
    },
    /// The answer took too long.
    #[error("{address} did not answer within {TIMEOUT:?}")]
    Slow {
        /// The address that was used.
        address: String,
    },
    /// The code is not 200, or the page is larger than any of the proxy's.
    #[error(
        "{address} answered {status} and not the page {path}; is it the admin port of a kube-retry-proxy?"
    )]
    Answer {
        /// The address that was used.
        address: String,
        /// The path of the page.
        path: String,
        /// The code of the answer.
        status: StatusCode,
    },
    /// The page is not the JSON that this version expects.
    #[error(
        "cannot understand the page {path} of {address}; is it the admin port of a kube-retry-proxy?"
    )]
    Page {
        /// The address that was used.
        address: String,
        /// The path of the page.
        path: String,
        /// Where the JSON is wrong.
        source: serde_json::Error,
    },
}

/// Reads the page at `path` as JSON. `address` is `HOST:PORT`; `http://` in front of it is ignored,
/// and an address of all interfaces means this machine.
pub(super) fn get<T: DeserializeOwned>(address: &str, path: &str) -> Result<T, CliError> {
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

/// The address to connect to.
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
    // The task ends with the connection, and the sender reports its errors.
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
    fn a_listen_address_becomes_an_address_to_connect_to() {
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
