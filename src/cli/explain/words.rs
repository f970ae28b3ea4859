//! What kube-apiserver means by a sentence, where a log has nothing else of its answer. Its words are
//! fixed, so a sentence says which code, reason and details it came with.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go>

use crate::status::Status;

/// What a sentence means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// A Status with this sentence as its message.
    Status(Status),
    /// An answer in plain text.
    Text(u16, &'static str),
}

/// Sentences that are the same in every answer, with their code and reason. Without a reason, the
/// answer is plain text.
///
/// client-go writes some of its own, where the answer was no Status or only repeated its reason.
const FIXED: [(&str, u16, &str); 18] = [
    (
        "The apiserver is shutting down, please try again later",
        429,
        "",
    ),
    (
        "The apiserver hasn't been fully initialized yet, please try again later",
        429,
        "",
    ),
    ("Too many requests, please try again later", 429, ""),
    (
        "the server has received too many requests and has asked us to try again later",
        429,
        "TooManyRequests",
    ),
    (
        "the request has been made before all known HTTP paths have been installed",
        503,
        "ServiceUnavailable",
    ),
    ("apiserver is shutting down", 503, "ServiceUnavailable"),
    ("Timeout: request did not complete within", 504, "Timeout"),
    (
        "the server was unable to return a response in the time allotted",
        504,
        "Timeout",
    ),
    (
        "the server is currently unable to handle the request",
        503,
        "ServiceUnavailable",
    ),
    ("could not be completed at this time", 500, "ServerTimeout"),
    ("etcdserver: too many requests", 500, " "),
    ("etcdserver: request timed out", 500, " "),
    ("etcdserver: leader changed", 500, " "),
    (
        "the server has asked for the client to provide credentials",
        401,
        "Unauthorized",
    ),
    ("You must be logged in to the server", 401, "Unauthorized"),
    ("the server reported a conflict", 409, "Conflict"),
    (
        "Cannot evict pod as it would violate the pod's disruption budget",
        429,
        "TooManyRequests",
    ),
    ("Request entity too large", 413, "RequestEntityTooLarge"),
];

/// The reasons that kubectl prints, with their codes.
const REASONS: [(&str, u16); 17] = [
    ("AlreadyExists", 409),
    ("BadRequest", 400),
    ("Conflict", 409),
    ("Expired", 410),
    ("Forbidden", 403),
    ("Gone", 410),
    ("InternalError", 500),
    ("Invalid", 422),
    ("MethodNotAllowed", 405),
    ("NotAcceptable", 406),
    ("NotFound", 404),
    ("RequestEntityTooLarge", 413),
    ("ServerTimeout", 500),
    ("ServiceUnavailable", 503),
    ("Timeout", 504),
    ("TooManyRequests", 429),
    ("Unauthorized", 401),
];

/// How a message about a conflict ends.
const TRY_AGAIN: &str = "please apply your changes to the latest version and try again";

/// What the known sentences of a line mean.
pub(super) fn all(text: &str) -> impl Iterator<Item = Meant> {
    let (before, denial) = text.split_at(denial(text).unwrap_or(text.len()));
    before
        .split_inclusive(TRY_AGAIN)
        .chain([denial])
        .filter_map(meant)
}

/// Where a webhook's denial starts. A webhook may say anything, also the sentences of others.
pub(super) fn denial(text: &str) -> Option<usize> {
    let start = text.find("admission webhook \"")?;
    text[start..]
        .contains("\" denied the request")
        .then_some(start)
}

/// Whether a message about a conflict is as the apiserver writes it most often.
pub(super) fn is_whole(message: &str) -> bool {
    message
        .strip_suffix(TRY_AGAIN)
        .is_some_and(|start| start.ends_with(": the object has been modified; "))
}

/// What the first known sentence of `text` means.
fn meant(text: &str) -> Option<Meant> {
    // A webhook may say anything, also the sentences below.
    denied(text)
        .or_else(|| conflict(text))
        .or_else(|| forbidden(text))
        .or_else(|| already_exists(text))
        .or_else(|| not_found(text))
        .or_else(|| internal(text))
        .map(Meant::Status)
        .or_else(|| fixed(text))
}

/// `Error from server (Reason): …`, whatever it says.
pub(super) fn kubectl(text: &str) -> Option<Meant> {
    let (reason, message) = text
        .split_once("Error from server (")?
        .1
        .split_once("): ")?;
    let (reason, code) = REASONS.iter().find(|(known, _)| *known == reason)?;
    Some(Meant::Status(Status::new(*code, *reason, line(message))))
}

fn fixed(text: &str) -> Option<Meant> {
    let (sentence, code, reason) = FIXED
        .iter()
        .find(|(sentence, ..)| text.contains(sentence))?;
    Some(match *reason {
        "" => Meant::Text(*code, sentence),
        " " => Meant::Status(Status::new(*code, "", *sentence)),
        reason => Meant::Status(Status::new(*code, reason, *sentence)),
    })
}

/// Without a code of its own, a webhook denies with 403.
fn denied(text: &str) -> Option<Status> {
    let start = text.find("admission webhook \"")?;
    let message = line(&text[start..]);
    message
        .contains("\" denied the request")
        .then(|| Status::new(403, "Forbidden", message))
}

fn conflict(text: &str) -> Option<Status> {
    const START: &str = "Operation cannot be fulfilled on ";
    let message = line(&text[text.find(START)?..]);
    let message = message
        .find(TRY_AGAIN)
        .map_or(message, |end| &message[..end + TRY_AGAIN.len()]);
    let (resource, rest) = message.get(START.len()..)?.split_once(' ')?;
    let (name, cause) = named(rest)?;
    // As the apiserver writes it, since `verdict` reads the message too.
    let message = format!("{START}{resource} \"{name}\": {cause}");
    Some(about(Status::new(409, "Conflict", message), resource, name))
}

/// The name and the rest of `"a": rest`. People lose the quotation marks, or use others.
fn named(text: &str) -> Option<(&str, &str)> {
    for (open, close) in [("\"", "\": "), ("'", "': "), ("`", "`: ")] {
        if let Some((name, rest)) = text
            .strip_prefix(open)
            .and_then(|text| text.split_once(close))
        {
            // No name has a space, but one that was folded seems to.
            return (!name.contains(' ')).then_some((name, rest));
        }
    }
    let (name, rest) = text.split_once(": ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, rest))
}

/// `pods "a" is forbidden: exceeded quota: …`. A create with a `generateName` has no name there.
fn forbidden(text: &str) -> Option<Status> {
    let at = text.find(" is forbidden: ")?;
    let (resource, name, start) = object_before(text, at)?;
    let mut message = line(&text[start..]);
    let cause = message
        .get(at + " is forbidden: ".len() - start..)
        .unwrap_or_default();
    let of_quota = [
        "exceeded quota: ",
        "failed quota: ",
        "status unknown for quota: ",
    ];
    if of_quota.iter().any(|known| cause.starts_with(known)) {
        // No name of a quota has a quotation mark, so it ends a string around the message.
        let end = cause.find('"').unwrap_or(cause.len());
        message = &message[..message.len() - cause.len() + end];
    }
    Some(about(
        Status::new(403, "Forbidden", message),
        resource,
        name,
    ))
}

fn already_exists(text: &str) -> Option<Status> {
    const EXHAUSTED: &str = ", the server was not able to generate a unique name for the object";
    let at = text.find(" already exists")?;
    let (resource, name, start) = object_before(text, at)?;
    let after = &text[at + " already exists".len()..];
    let end = text.len() - after.len()
        + if after.starts_with(EXHAUSTED) {
            EXHAUSTED.len()
        } else {
            0
        };
    Some(about(
        Status::new(409, "AlreadyExists", &text[start..end]),
        resource,
        name,
    ))
}

fn not_found(text: &str) -> Option<Status> {
    const END: &str = "\" not found";
    let end = text.find(END)?;
    let (resource, name, start) = object_before(text, end + 1)?;
    let message = &text[start..end + END.len()];
    Some(about(Status::new(404, "NotFound", message), resource, name))
}

fn internal(text: &str) -> Option<Status> {
    const START: &str = "Internal error occurred: ";
    let message = line(&text[text.find(START)?..]);
    // Logs go on after these, as with `. Check https://…`.
    let known = [
        "resource quota evaluation timed out",
        "resource quota evaluates timeout",
    ];
    let message = known
        .iter()
        .find(|known| {
            message
                .get(START.len()..)
                .is_some_and(|cause| cause.starts_with(**known))
        })
        .map_or(message, |known| &message[..START.len() + known.len()]);
    Some(Status::new(500, "InternalError", message))
}

/// The resource and the name in `pods "a"` or `pods`, which end at `at`, and where they start.
fn object_before(text: &str, at: usize) -> Option<(&str, &str, usize)> {
    let before = &text[..at];
    let (before, name) = match before.strip_suffix('"') {
        Some(quoted) => {
            let open = quoted.rfind('"')?;
            (quoted[..open].strip_suffix(' ')?, &quoted[open + 1..])
        }
        None => (before, ""),
    };
    let start = before
        .rfind(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "./-".contains(c)))
        .map_or(0, |last| {
            last + before[last..].chars().next().map_or(1, char::len_utf8)
        });
    let resource = &before[start..];
    (!resource.is_empty()).then_some((resource, name, start))
}

fn about(mut status: Status, resource: &str, name: &str) -> Status {
    let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
    status.details.kind = kind.to_owned();
    status.details.group = group.to_owned();
    status.details.name = name.to_owned();
    status
}

/// The first line, without what a log or a program puts around a string.
fn line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_end_matches(|c: char| c.is_whitespace() || "'`,;)}]".contains(c));
    // A quotation mark without its other half belongs to a string around the message.
    if line.matches('"').count() % 2 == 1 {
        line.trim_end_matches('"')
    } else {
        line
    }
}
