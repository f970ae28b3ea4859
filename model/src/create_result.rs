//! The meaning of an answer to a create for the client. It is judged by the status code, the reason
//! and the message, without the code of the proxy.

use http::StatusCode;

use crate::status::Status;

/// The meaning of an answer to a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateResult {
    /// The pod is stored.
    Created,
    /// Another write to the quota came first. The pod is not stored.
    QuotaConflict,
    /// The quota has no room for the pod. The pod is not stored.
    QuotaExceeded,
    /// A pod of this name exists.
    Exists,
    /// Another 4xx. The pod is not stored.
    Refused,
    /// A 5xx, or an answer that no apiserver sends. The pod may be stored.
    Failed,
    /// There was no answer. The pod may be stored.
    NoAnswer,
}

impl CreateResult {
    /// Classifies an answer to a create.
    pub fn of(code: StatusCode, body: &[u8]) -> CreateResult {
        if code.is_success() {
            return CreateResult::Created;
        }
        let status = Status::decode(body).filter(|status| status.code == i32::from(code.as_u16()));
        let (reason, message) = status
            .as_ref()
            .map(|status| (status.reason.as_str(), status.message.as_str()))
            .unwrap_or_default();
        match (code.as_u16(), reason) {
            (409, "Conflict") if is_about_a_quota(message) => CreateResult::QuotaConflict,
            (409, "AlreadyExists") if message.ends_with(" already exists") => CreateResult::Exists,
            (403, "Forbidden") if message.contains(" is forbidden: exceeded quota: ") => {
                CreateResult::QuotaExceeded
            }
            (400..500, _) => CreateResult::Refused,
            _ => CreateResult::Failed,
        }
    }
}

/// Whether the message is about a failed compare-and-swap on a quota. OpenShift has quotas of its
/// own as well.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go>
fn is_about_a_quota(message: &str) -> bool {
    let resource = message
        .strip_prefix("Operation cannot be fulfilled on ")
        .and_then(|rest| rest.split(' ').next());
    matches!(
        resource,
        Some("resourcequotas" | "clusterresourcequotas.quota.openshift.io")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Canned;

    /// The captured answers whose status code alone does not decide.
    #[test]
    fn reads_the_captured_answers() {
        let mut seen = 0;
        for file in std::fs::read_dir(crate::SAMPLES).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "http") {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap();
            let name = name.trim_start_matches("v1_37_");
            // The model does not speak CBOR.
            if name.ends_with("_cbor") {
                continue;
            }
            let answer = Canned::captured(&std::fs::read(&path).unwrap()).unwrap();
            let expected = match name {
                _ if name.starts_with("quota_conflict_409") => CreateResult::QuotaConflict,
                _ if name.starts_with("already_exists_409") => CreateResult::Exists,
                // The old namespace of this name still exists.
                "namespace_terminating_ns_create_409" => CreateResult::Exists,
                _ if name.starts_with("exceeded_quota_403") => CreateResult::QuotaExceeded,
                _ if answer.status.is_success() => CreateResult::Created,
                _ if answer.status.is_client_error() => CreateResult::Refused,
                _ => CreateResult::Failed,
            };
            assert_eq!(
                CreateResult::of(answer.status, &answer.body),
                expected,
                "{name}"
            );
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn only_the_code_counts_for_plain_text_or_a_status_of_another_code() {
        let conflict = Status::new(
            409,
            "Conflict",
            "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified",
        );
        let body = conflict.encode(crate::Encoding::Json);
        assert_eq!(
            CreateResult::of(StatusCode::CONFLICT, &body),
            CreateResult::QuotaConflict
        );
        assert_eq!(
            CreateResult::of(StatusCode::INTERNAL_SERVER_ERROR, &body),
            CreateResult::Failed
        );
        assert_eq!(
            CreateResult::of(StatusCode::CONFLICT, conflict.message.as_bytes()),
            CreateResult::Refused
        );
    }
}
