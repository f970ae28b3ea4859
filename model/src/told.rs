//! The meaning of an answer to a create for the client. It is judged by the status code, the reason
//! and the message, without the code of the proxy.

use http::StatusCode;

use crate::status::Status;

/// The meaning of an answer to a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
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
    Nothing,
}

impl Told {
    /// Classifies an answer to a create.
    pub fn by(code: StatusCode, body: &[u8]) -> Told {
        if code.is_success() {
            return Told::Created;
        }
        let status = Status::decode(body).filter(|status| status.code == i32::from(code.as_u16()));
        let (reason, message) = status
            .as_ref()
            .map(|status| (status.reason.as_str(), status.message.as_str()))
            .unwrap_or_default();
        match (code.as_u16(), reason) {
            (409, "Conflict") if is_about_a_quota(message) => Told::QuotaConflict,
            (409, "AlreadyExists") if message.ends_with(" already exists") => Told::Exists,
            (403, "Forbidden") if message.contains(" is forbidden: exceeded quota: ") => {
                Told::QuotaExceeded
            }
            (400..500, _) => Told::Refused,
            _ => Told::Failed,
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
            let answer = Canned::captured(&std::fs::read(&path).unwrap()).unwrap();
            let expected = match name {
                _ if name.starts_with("quota_conflict_409") => Told::QuotaConflict,
                _ if name.starts_with("already_exists_409") => Told::Exists,
                // The old namespace of this name still exists.
                "namespace_terminating_ns_create_409" => Told::Exists,
                _ if name.starts_with("exceeded_quota_403") => Told::QuotaExceeded,
                _ if answer.status.is_success() => Told::Created,
                _ if answer.status.is_client_error() => Told::Refused,
                _ => Told::Failed,
            };
            assert_eq!(Told::by(answer.status, &answer.body), expected, "{name}");
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
        assert_eq!(Told::by(StatusCode::CONFLICT, &body), Told::QuotaConflict);
        assert_eq!(
            Told::by(StatusCode::INTERNAL_SERVER_ERROR, &body),
            Told::Failed
        );
        assert_eq!(
            Told::by(StatusCode::CONFLICT, conflict.message.as_bytes()),
            Told::Refused
        );
    }
}
