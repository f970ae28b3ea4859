//! The classes of answers: one for each thing that an answer to a create can prove.

use super::table::table;
use Safety::{Safe, Unknown, Unsafe};

table! {
    /// The class of an answer to a create: its label, what it proves, and why.
    ///
    /// The labels are metric labels and appear in logs: do not rename them.
    pub enum Class: (&'static str, Safety, &'static str) {
        /// 2xx.
        Success = ("success", Unsafe, "The apiserver stored the object."),
        /// 409 on a ResourceQuota's status update.
        QuotaConflict = (
            "quota_conflict",
            Safe,
            "Another writer updated the ResourceQuota at the same time; quota is checked before \
            anything is stored, so the object was not.",
        ),
        /// The same for a quota that was deleted and created again meanwhile.
        QuotaConflictUid = (
            "quota_conflict_uid",
            Safe,
            "The ResourceQuota was deleted and created again during the check; quota is checked \
            before anything is stored, so the object was not.",
        ),
        /// 409 on OpenShift's ClusterResourceQuota.
        ClusterQuotaConflict = (
            "cluster_quota_conflict",
            Safe,
            "Another writer updated the ClusterResourceQuota at the same time; quota is checked \
            before anything is stored, so the object was not.",
        ),
        /// 409: the name is taken.
        AlreadyExists = (
            "already_exists",
            Unknown,
            "An object of this name exists, perhaps from an earlier attempt of the client; sending \
            it again would meet it again.",
        ),
        /// 409: no free name found for a generateName.
        GenerateNameExhausted = (
            "generate_name_exhausted",
            Safe,
            "The apiserver found no free name for the generateName and stored nothing.",
        ),
        /// Any other 409.
        OtherConflict = (
            "other_conflict",
            Unknown,
            "A conflict on something other than a quota; only the client can resolve it.",
        ),
        /// 403: the quota is used up.
        ExceededQuota = (
            "exceeded_quota",
            Safe,
            "The quota has no room for the object; nothing was stored, and waiting helps only once \
            something ends.",
        ),
        /// 403: the quota has not been computed yet.
        QuotaStatusUnknown = (
            "quota_status_unknown",
            Safe,
            "The quota is new and its controller has not computed it yet; nothing was stored.",
        ),
        /// 403: the object lacks requests or limits that the quota asks for.
        QuotaSpec = (
            "quota_spec",
            Safe,
            "The object lacks requests or limits that the quota asks for; nothing was stored, and \
            it will be refused until it has them.",
        ),
        /// 403: the namespace is being deleted.
        NamespaceTerminating = (
            "namespace_terminating",
            Safe,
            "The namespace is being deleted and accepts no new objects.",
        ),
        /// 403: etcd failed during admission.
        EtcdLost = (
            "etcd_lost",
            Unknown,
            "The apiserver lost etcd while admitting the object, and the answer does not tell how \
            far it got.",
        ),
        /// 500: the quota was not evaluated within ten seconds.
        QuotaEvaluationTimeout = (
            "quota_evaluation_timeout",
            Safe,
            "The apiserver did not evaluate the quota within ten seconds; nothing was stored, but \
            the quota may have been charged.",
        ),
        /// 429 of max-in-flight or of priority and fairness.
        Throttled = (
            "throttled",
            Safe,
            "The apiserver is busy and turned the request away before handling it.",
        ),
        /// 429 or 503 of a server that is shutting down.
        ShuttingDown = (
            "shutting_down",
            Safe,
            "This apiserver is shutting down and turned the request away; another one may take it.",
        ),
        /// 429 or 503 of a server that is starting.
        StartingUp = (
            "starting_up",
            Safe,
            "This apiserver is still starting and turned the request away.",
        ),
        /// 429 of a PodDisruptionBudget.
        EvictionRefused = (
            "eviction_refused",
            Unknown,
            "A PodDisruptionBudget refused the eviction; its client decides when to ask again.",
        ),
        /// 504 of the apiserver.
        HandlerTimeout = (
            "handler_timeout",
            Unsafe,
            "The apiserver gave up waiting for its own handler, which may still store the object.",
        ),
        /// 500 of the store.
        StorageTimeout = (
            "storage_timeout",
            Unsafe,
            "The apiserver got no word from etcd in time; the object may be stored.",
        ),
        /// 500: etcd refused the proposal.
        EtcdOverload = (
            "etcd_overload",
            Safe,
            "etcd refused the write because it is overloaded; nothing was stored.",
        ),
        /// 500: an admission webhook did not answer.
        WebhookUnreachable = (
            "webhook_unreachable",
            Safe,
            "An admission webhook could not be called; nothing was stored, but webhooks may have \
            had side effects.",
        ),
        /// 401.
        Unauthorized = (
            "unauthorized",
            Safe,
            "The apiserver does not accept the caller's credentials.",
        ),
        /// Any other 4xx Status: authorization, validation, size, or denied by a webhook.
        Rejected = (
            "rejected",
            Safe,
            "The apiserver refused the request as it is; nothing was stored, and it would be \
            refused again.",
        ),
        /// Any other 5xx Status.
        ServerError = (
            "server_error",
            Unknown,
            "The apiserver failed in a way that does not tell whether the object was stored.",
        ),
        /// No Status, or a code that no create should get.
        Unrecognized = (
            "unrecognized",
            Unsafe,
            "Not an answer that an apiserver gives to a create, perhaps a load balancer's; the \
            object may be stored.",
        ),
        /// No answer: DNS, connect or TLS failed before anything was sent.
        ConnectFailed = (
            "connect_failed",
            Safe,
            "No connection to the apiserver, so nothing was sent.",
        ),
        /// No answer: the server had said that it would not process the request (REFUSED_STREAM,
        /// GOAWAY).
        Refused = (
            "refused",
            Safe,
            "The apiserver closed the connection and said that it would not process the request.",
        ),
        /// No answer: the connection was reset or ended, or the time was over, after the request
        /// was sent.
        Lost = (
            "lost",
            Unsafe,
            "The connection broke after the request was sent; the object may be stored.",
        ),
    }
}

impl Class {
    /// The label, in snake case.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Whether the answer proves that nothing was stored.
    pub fn safety(self) -> Safety {
        self.row().1
    }

    /// One sentence for operators: what happened and what it proves.
    pub fn why(self) -> &'static str {
        self.row().2
    }

    /// Whether the apiserver had authorized the caller before it gave this answer: it comes from
    /// admission or from the store. Only then is there such a namespace and such a resource.
    /// Anybody can get the other answers for any namespace; throttling comes before authorization.
    pub fn is_after_authorization(self) -> bool {
        self.is_quota_conflict()
            || matches!(
                self,
                Class::Success
                    | Class::AlreadyExists
                    | Class::GenerateNameExhausted
                    | Class::ExceededQuota
                    | Class::QuotaStatusUnknown
                    | Class::QuotaSpec
                    | Class::QuotaEvaluationTimeout
                    | Class::EtcdOverload
                    | Class::WebhookUnreachable
            )
    }

    /// Whether the object may be stored although the answer does not say so.
    pub fn is_ambiguous(self) -> bool {
        matches!(
            self,
            Class::Lost
                | Class::HandlerTimeout
                | Class::StorageTimeout
                | Class::ServerError
                | Class::EtcdLost
                | Class::Unrecognized
        )
    }

    /// Whether this is a quota conflict, which is the reason for this proxy.
    pub fn is_quota_conflict(self) -> bool {
        matches!(
            self,
            Class::QuotaConflict | Class::QuotaConflictUid | Class::ClusterQuotaConflict
        )
    }
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
