//! What to say about a text without an answer: clients print other errors too.

use super::ExplainError;

const CONNECT_FAILED: &str =
    "nothing was sent, and the proxy sends the create again (connect_failed)";
const REFUSED: &str = "the server said that it would not process the request, and the proxy sends \
    the create again (refused)";
const LOST: &str = "the object may be stored, so the proxy does not send the create again (lost), or \
    looks for the object if replay.ambiguous is Resolve";

/// Errors of clients, those that prove the most first, and what the proxy does.
const NO_ANSWER: [(&str, &str); 21] = [
    ("connection refused", CONNECT_FAILED),
    ("Connection refused", CONNECT_FAILED),
    ("ECONNREFUSED", CONNECT_FAILED),
    ("no such host", CONNECT_FAILED),
    ("UnknownHostException", CONNECT_FAILED),
    ("Name or service not known", CONNECT_FAILED),
    ("TLS handshake timeout", CONNECT_FAILED),
    ("x509: ", CONNECT_FAILED),
    ("no route to host", CONNECT_FAILED),
    ("REFUSED_STREAM", REFUSED),
    ("GOAWAY", REFUSED_OR_LOST),
    ("connection reset", LOST),
    ("Connection reset", LOST),
    ("ECONNRESET", LOST),
    ("Client.Timeout exceeded", LOST),
    ("SocketTimeoutException", LOST),
    ("InterruptedIOException", LOST),
    ("client connection lost", LOST),
    ("unexpected EOF", LOST),
    ("context deadline exceeded", LOST),
    ("i/o timeout", LOST),
];

const REFUSED_OR_LOST: &str = "the proxy sends the create again if the server said that it would \
    not process this request (refused), and otherwise does not, since the object may be stored \
    (lost)";

/// The reasons of codes, by which a code in a text is known.
const CODES: [&str; 9] = [
    "403 Forbidden",
    "404 Not Found",
    "409 Conflict",
    "422 Unprocessable Entity",
    "429 Too Many Requests",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
];

/// The error for a text in which nothing was found.
pub(super) fn of_nothing(text: &[u8]) -> ExplainError {
    let text = String::from_utf8_lossy(text);
    if let Some((sign, does)) = NO_ANSWER.iter().find(|(sign, _)| text.contains(sign)) {
        return ExplainError::NoAnswer { sign, does };
    }
    // HTML is the page of a load balancer, which says more than the code.
    let is_page = text.contains("<html") || text.contains("<HTML");
    match CODES.iter().find(|code| text.contains(**code)) {
        Some(sign) if !is_page => ExplainError::CodeAlone {
            sign: (*sign).to_owned(),
        },
        _ => ExplainError::NoCode,
    }
}
