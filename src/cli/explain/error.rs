//! Why a capture cannot be explained, in words that say what to give instead.

/// Why a capture cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The capture is empty.
    #[error(
        "the capture is empty; expected an HTTP answer, as `curl -i` prints it, or the body of one"
    )]
    Empty,
    /// The first line starts with `HTTP/` and is not a status line.
    #[error(
        "line 1: {line:?} is not a status line; expected, for example, \"HTTP/1.1 409 Conflict\" or \"HTTP/2 409\""
    )]
    StatusLine {
        /// The start of the line.
        line: String,
    },
    /// A line of the head is not a header.
    #[error(
        "line {number}: {line:?} is not a header; expected \"Name: value\", and an empty line before the body"
    )]
    Header {
        /// The number of the line, counted from 1.
        number: usize,
        /// The start of the line.
        line: String,
    },
    /// The capture has only interim answers (1xx).
    #[error(
        "the capture ends after an interim answer ({code}); expected the final answer after it"
    )]
    OnlyInterim {
        /// The interim code.
        code: u16,
    },
    /// The capture is a body without a code.
    #[error(
        "the capture has neither a status line nor a Status with a code, nor a message that kube-apiserver writes; expected a first line like \"HTTP/1.1 409 Conflict\", a metav1.Status, or a log with a line like \"Error from server (Conflict): Operation cannot be fulfilled on …\""
    )]
    NoCode,
    /// A text that tells of a failed connection.
    #[error(
        "the client got no answer ({sign}), so there is none to explain. If this happens between \
        the proxy and kube-apiserver, {does}"
    )]
    NoAnswer {
        /// The words that tell it.
        sign: &'static str,
        /// What the proxy does.
        does: &'static str,
    },
    /// A text with a code, without the answer.
    #[error(
        "the code alone ({sign}) does not tell what happened; add the body of the answer, as \
        kubectl prints it with -v=8"
    )]
    CodeAlone {
        /// The words with the code.
        sign: String,
    },
    /// An audit log.
    #[error("this is an audit log of kube-apiserver; use --audit-log FILE")]
    AuditLog,
    /// The body has a coding that is not gzip.
    #[error(
        "the body is compressed ({coding}), which cannot be read here; expected gzip or none, as `curl --compressed -i` prints it"
    )]
    Coding {
        /// The value of `Content-Encoding`.
        coding: String,
    },
    /// The body or the file starts as gzip and is something else.
    #[error("the gzip data of the capture cannot be read: {why}")]
    Gzip {
        /// The reason of the decompressor.
        why: String,
    },
}
