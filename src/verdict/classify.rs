//! Finds the [`Class`] of an answer from its status code, headers and body. It looks at the
//! structure first (code, reason, details), and at text only in its exact place.
//!
//! Clients choose names and webhooks write messages, so a text that merely occurs somewhere proves
//! nothing.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use super::exceeded::EXCEEDED;
use super::{Class, ClassifiedAnswer};
use crate::status::Status;

/// Classifies an answer. `body` may be cut off: a Status that cannot be decoded counts as none.
///
/// The first bytes of the body tell its encoding. `Content-Type` is ignored, because it is wrong or
/// missing too often.
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ClassifiedAnswer {
    if status.is_success() {
        return Class::Success.into();
    }
    // A Status with another code does not belong to this answer.
    let parsed =
        Status::decode(body).filter(|parsed| parsed.code == 0 || parsed.code == status.as_u16());
    let class = match &parsed {
        Some(parsed) => of_status(status.as_u16(), parsed),
        None => of_text(status.as_u16(), body),
    };
    let of_gateway = parsed.is_none() && matches!(status.as_u16(), 502..=504);
    let asked = header_seconds(headers).or(parsed
        .map(|parsed| parsed.details.retry_after_seconds)
        .filter(|seconds| *seconds > 0));
    ClassifiedAnswer {
        class,
        retry_after: asked.map(|seconds| Duration::from_secs(seconds.into())),
        of_gateway,
    }
}

/// Classifies an answer of which only the code and the Status are known.
pub fn classify_status(code: StatusCode, status: &Status) -> Class {
    of_status(code.as_u16(), status)
}

/// `Retry-After` in whole seconds, as client-go reads it. The apiserver never sends a date, and a
/// date would need synchronised clocks.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/client-go/rest/request.go>
fn header_seconds(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

fn of_status(code: u16, status: &Status) -> Class {
    let message = status.message.as_str();
    // A webhook chooses the code, reason, details and message of its denial. Only this prefix comes
    // from the apiserver. https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go
    let denied_by_webhook = message.starts_with("admission webhook \"");
    match (code, status.reason.as_str()) {
        (401, _) => Class::Unauthorized,
        (409, "Conflict") if !denied_by_webhook => conflict(status),
        (409, "AlreadyExists") if !denied_by_webhook => {
            // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go
            let exhausted = message
                .ends_with("the server was not able to generate a unique name for the object");
            if exhausted {
                Class::GenerateNameExhausted
            } else {
                Class::AlreadyExists
            }
        }
        (409, _) => Class::OtherConflict,
        (403, "Forbidden") if !denied_by_webhook => forbidden(status),
        (429, "TooManyRequests") if !denied_by_webhook => too_many_requests(status),
        (500, reason) if !denied_by_webhook => internal(reason, message),
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/waitgroup.go
        (503, "ServiceUnavailable") if message == "apiserver is shutting down" => {
            Class::ShuttingDown
        }
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/util/notfoundhandler/not_found_handler.go
        (503, "ServiceUnavailable")
            if message.starts_with(
                "the request has been made before all known HTTP paths have been installed",
            ) =>
        {
            Class::StartingUp
        }
        (504, _) => Class::HandlerTimeout,
        (400 | 403..=406 | 410 | 413 | 415 | 422 | 429, _) => Class::Rejected,
        (500..=599, _) => Class::ServerError,
        _ => Class::Unrecognized,
    }
}

/// The details name the object that could not be updated. A create updates only quotas, so a
/// conflict on a quota comes from quota admission:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go>
fn conflict(status: &Status) -> Class {
    match (status.details.group.as_str(), status.details.kind.as_str()) {
        // The precondition of the status update, https://github.com/kubernetes/kubernetes/issues/71700
        ("", "resourcequotas") if status.message.contains("Precondition failed: UID") => {
            Class::QuotaConflictUid
        }
        ("", "resourcequotas") => Class::QuotaConflict,
        ("quota.openshift.io", "clusterresourcequotas") => Class::ClusterQuotaConflict,
        _ => Class::OtherConflict,
    }
}

fn forbidden(status: &Status) -> Class {
    if status
        .details
        .causes
        .iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
    {
        return Class::NamespaceTerminating;
    }
    // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go
    match cause_of_forbidden(status) {
        Some(cause) if cause.starts_with(EXCEEDED) => Class::ExceededQuota,
        Some(cause) if cause.starts_with("status unknown for quota: ") => Class::QuotaStatusUnknown,
        Some(cause) if cause.starts_with("failed quota: ") => Class::QuotaSpec,
        Some(cause)
            if cause.starts_with("rpc error: code = ") || cause.starts_with("etcdserver: ") =>
        {
            Class::EtcdLost
        }
        // Older clusters send no cause, and neither do other plugins.
        Some(cause)
            if cause.starts_with("unable to create new content in namespace ")
                && cause.ends_with(" because it is being terminated") =>
        {
            Class::NamespaceTerminating
        }
        _ => Class::Rejected,
    }
}

/// The text after `pods "a" is forbidden: `. A client chooses the name in it, and it may be any
/// string, so the prefix is built from the details and compared. None: the prefix differs, as for a
/// name that Go would escape.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go>
pub(super) fn cause_of_forbidden(status: &Status) -> Option<&str> {
    let details = &status.details;
    let mut rest = status.message.strip_prefix(details.kind.as_str())?;
    if !details.group.is_empty() {
        rest = rest
            .strip_prefix('.')?
            .strip_prefix(details.group.as_str())?;
    }
    if !details.name.is_empty() {
        rest = rest
            .strip_prefix(" \"")?
            .strip_prefix(details.name.as_str())?
            .strip_prefix('"')?;
    }
    rest.strip_prefix(" is forbidden: ")
}

fn too_many_requests(status: &Status) -> Class {
    // https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/registry/core/pod/storage/eviction.go
    let eviction = status
        .details
        .causes
        .iter()
        .any(|cause| cause.reason == "DisruptionBudget")
        || status.message.starts_with("Cannot evict pod");
    if eviction {
        Class::EvictionRefused
    } else {
        Class::Throttled
    }
}

fn internal(reason: &str, message: &str) -> Class {
    if reason == "InternalError" {
        let cause = message
            .strip_prefix("Internal error occurred: ")
            .unwrap_or_default();
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go
        // and its older wording,
        // https://github.com/kubernetes/kubernetes/blob/v1.18.0/plugin/pkg/admission/resourcequota/controller.go
        if matches!(
            cause,
            "resource quota evaluation timed out" | "resource quota evaluates timeout"
        ) {
            return Class::QuotaEvaluationTimeout;
        }
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/util/webhook/error.go
        if cause.starts_with("failed calling webhook \"")
            || cause.starts_with("failed calling admission webhook \"")
        {
            return Class::WebhookUnreachable;
        }
    }
    // https://github.com/etcd-io/etcd/blob/v3.5.21/api/v3rpc/rpctypes/error.go
    let etcd = message
        .strip_prefix("rpc error: code = ResourceExhausted desc = ")
        .unwrap_or(message);
    if reason.is_empty() && etcd == "etcdserver: too many requests" {
        return Class::EtcdOverload;
    }
    let slow = [
        "could not be completed at this time",
        "etcdserver: request timed out",
        "etcdserver: leader changed",
        "context deadline exceeded",
    ];
    if slow.iter().any(|text| message.contains(text)) {
        Class::StorageTimeout
    } else {
        Class::ServerError
    }
}

/// The class of an answer that the apiserver writes as plain text, whatever encoding was asked for.
/// The text is the whole body.
fn of_text(code: u16, body: &[u8]) -> Class {
    let body = body.trim_ascii();
    match code {
        401 => Class::Unauthorized,
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight.go
        429 if body == b"Too many requests, please try again later." => Class::Throttled,
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/with_retry_after.go
        429 if body.starts_with(b"The apiserver is shutting down, please try again later") => {
            Class::ShuttingDown
        }
        // OpenShift's build of the apiserver.
        429 | 503 if body.starts_with(b"The apiserver hasn't been fully initialized") => {
            Class::StartingUp
        }
        // Older apiservers, https://github.com/kubernetes/kubernetes/blob/v1.14.0/staging/src/k8s.io/apiserver/pkg/server/filters/waitgroup.go
        500 if body == b"apiserver is shutting down." => Class::ShuttingDown,
        // Older apiservers write the Status of a timeout without a Content-Type. A 504 of a load
        // balancer proves as little.
        504 => Class::HandlerTimeout,
        _ => Class::Unrecognized,
    }
}
