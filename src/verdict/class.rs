//! The classes of answers: one for each thing that an answer to a create can prove.

/// What an answer to a create is. The names are metric labels and appear in logs: do not rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2xx.
    Success,
    /// 409 on a ResourceQuota's status update.
    QuotaConflict,
    /// The same for a quota that was deleted and created anew meanwhile.
    QuotaConflictUid,
    /// 409 on OpenShift's ClusterResourceQuota.
    ClusterQuotaConflict,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: no free name found for a generateName.
    GenerateNameExhausted,
    /// Any other 409.
    OtherConflict,
    /// 403: the quota is used up.
    ExceededQuota,
    /// 403: the quota has not been computed yet.
    QuotaStatusUnknown,
    /// 403: the pod lacks requests or limits that the quota asks for.
    QuotaSpec,
    /// 403: the namespace is being deleted.
    NamespaceTerminating,
    /// 403: etcd failed during admission.
    EtcdLost,
    /// 500: the quota was not evaluated within ten seconds.
    QuotaEvaluationTimeout,
    /// 429 of max-in-flight or of priority and fairness.
    Throttled,
    /// 429 or 503 of a server on its way down.
    ShuttingDown,
    /// 429 or 503 of a server on its way up.
    StartingUp,
    /// 429 of a PodDisruptionBudget.
    EvictionRefused,
    /// 504 of the apiserver.
    HandlerTimeout,
    /// 500 of the store.
    StorageTimeout,
    /// 500: etcd refused the proposal.
    EtcdOverload,
    /// 500: an admission webhook did not answer.
    WebhookUnreachable,
    /// 401.
    Unauthorized,
    /// Another 4xx Status: authorization, validation, size, a webhook's denial.
    Rejected,
    /// Another 5xx Status.
    ServerError,
    /// No Status, or a code that no create should get.
    Unrecognized,
    /// No answer: DNS, connect or TLS failed before anything was sent.
    ConnectFailed,
    /// No answer: the server had said that it would not process the request (REFUSED_STREAM,
    /// GOAWAY).
    Refused,
    /// No answer: reset, end or timeout after the request was sent.
    Lost,
}

/// Whether an answer proves that the object was not stored by this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Safety {
    /// It was not.
    Safe,
    /// It may have been, or was.
    Unsafe,
    /// The answer does not tell.
    Unknown,
}

impl Safety {
    /// `safe`, `unsafe` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Safety::Safe => "safe",
            Safety::Unsafe => "unsafe",
            Safety::Unknown => "unknown",
        }
    }
}

impl Class {
    /// Every class, for metrics that start at 0.
    pub const ALL: [Class; 28] = [
        Class::Success,
        Class::QuotaConflict,
        Class::QuotaConflictUid,
        Class::ClusterQuotaConflict,
        Class::AlreadyExists,
        Class::GenerateNameExhausted,
        Class::OtherConflict,
        Class::ExceededQuota,
        Class::QuotaStatusUnknown,
        Class::QuotaSpec,
        Class::NamespaceTerminating,
        Class::EtcdLost,
        Class::QuotaEvaluationTimeout,
        Class::Throttled,
        Class::ShuttingDown,
        Class::StartingUp,
        Class::EvictionRefused,
        Class::HandlerTimeout,
        Class::StorageTimeout,
        Class::EtcdOverload,
        Class::WebhookUnreachable,
        Class::Unauthorized,
        Class::Rejected,
        Class::ServerError,
        Class::Unrecognized,
        Class::ConnectFailed,
        Class::Refused,
        Class::Lost,
    ];

    /// The label, in snake case.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// What the answer proves.
    pub fn safety(self) -> Safety {
        self.facts().1
    }

    /// One sentence for operators: what happened and what it proves.
    pub fn why(self) -> &'static str {
        self.facts().2
    }

    /// Whether this is a quota's lost update, the accident that this proxy is for.
    pub fn is_quota_conflict(self) -> bool {
        matches!(
            self,
            Class::QuotaConflict | Class::QuotaConflictUid | Class::ClusterQuotaConflict
        )
    }

    fn facts(self) -> (&'static str, Safety, &'static str) {
        use Safety::{Safe, Unknown, Unsafe};
        match self {
            Class::Success => ("success", Unsafe, "The apiserver stored the object."),
            Class::QuotaConflict => (
                "quota_conflict",
                Safe,
                "Another writer updated the ResourceQuota at the same time; quota is checked before anything is stored, so the object was not.",
            ),
            Class::QuotaConflictUid => (
                "quota_conflict_uid",
                Safe,
                "The ResourceQuota was deleted and created anew during the check; quota is checked before anything is stored, so the object was not.",
            ),
            Class::ClusterQuotaConflict => (
                "cluster_quota_conflict",
                Safe,
                "Another writer updated the ClusterResourceQuota at the same time; quota is checked before anything is stored, so the object was not.",
            ),
            Class::AlreadyExists => (
                "already_exists",
                Unknown,
                "An object of this name exists, perhaps from an earlier attempt of the client; sending it again would meet it again.",
            ),
            Class::GenerateNameExhausted => (
                "generate_name_exhausted",
                Safe,
                "The apiserver found no free name for the generateName and stored nothing.",
            ),
            Class::OtherConflict => (
                "other_conflict",
                Unknown,
                "A conflict on something other than a quota; only the client can resolve it.",
            ),
            Class::ExceededQuota => (
                "exceeded_quota",
                Safe,
                "The quota has no room for the object; nothing was stored, and waiting helps only once something ends.",
            ),
            Class::QuotaStatusUnknown => (
                "quota_status_unknown",
                Safe,
                "The quota is new and its controller has not computed it yet; nothing was stored.",
            ),
            Class::QuotaSpec => (
                "quota_spec",
                Safe,
                "The object lacks requests or limits that the quota asks for; nothing was stored, and it will be refused until it has them.",
            ),
            Class::NamespaceTerminating => (
                "namespace_terminating",
                Safe,
                "The namespace is being deleted and accepts no new objects.",
            ),
            Class::EtcdLost => (
                "etcd_lost",
                Unknown,
                "The apiserver lost etcd while admitting the object, and the answer does not tell how far it came.",
            ),
            Class::QuotaEvaluationTimeout => (
                "quota_evaluation_timeout",
                Safe,
                "The apiserver did not evaluate the quota within ten seconds; nothing was stored, but the quota may have been charged.",
            ),
            Class::Throttled => (
                "throttled",
                Safe,
                "The apiserver is busy and turned the request away before handling it.",
            ),
            Class::ShuttingDown => (
                "shutting_down",
                Safe,
                "This apiserver is shutting down and turned the request away; another one may take it.",
            ),
            Class::StartingUp => (
                "starting_up",
                Safe,
                "This apiserver is still starting and turned the request away.",
            ),
            Class::EvictionRefused => (
                "eviction_refused",
                Unknown,
                "A PodDisruptionBudget refused the eviction; its client decides when to ask again.",
            ),
            Class::HandlerTimeout => (
                "handler_timeout",
                Unsafe,
                "The apiserver gave up waiting for its own handler, which may still store the object.",
            ),
            Class::StorageTimeout => (
                "storage_timeout",
                Unsafe,
                "The apiserver got no word from etcd in time; the object may be stored.",
            ),
            Class::EtcdOverload => (
                "etcd_overload",
                Safe,
                "etcd refused the write because it is overloaded; nothing was stored.",
            ),
            Class::WebhookUnreachable => (
                "webhook_unreachable",
                Safe,
                "An admission webhook could not be called; nothing was stored, but webhooks may have had side effects.",
            ),
            Class::Unauthorized => (
                "unauthorized",
                Safe,
                "The apiserver does not accept the caller's credentials.",
            ),
            Class::Rejected => (
                "rejected",
                Safe,
                "The apiserver refused the request as it is; nothing was stored, and it would be refused again.",
            ),
            Class::ServerError => (
                "server_error",
                Unknown,
                "The apiserver failed in a way that does not tell whether the object was stored.",
            ),
            Class::Unrecognized => (
                "unrecognized",
                Unsafe,
                "Not an answer that an apiserver gives to a create, perhaps a load balancer's; the object may be stored.",
            ),
            Class::ConnectFailed => (
                "connect_failed",
                Safe,
                "No connection to the apiserver, so nothing was sent.",
            ),
            Class::Refused => (
                "refused",
                Safe,
                "The apiserver closed the connection and said that it would not process the request.",
            ),
            Class::Lost => (
                "lost",
                Unsafe,
                "The connection broke after the request was sent; the object may be stored.",
            ),
        }
    }
}
