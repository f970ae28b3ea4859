//! The values of labels that are known in advance, one enum for each label.
//!
//! Enums bound the labels, and with `ALL` every counter can start at 0. The values are API, and the
//! snapshot in `tests/snapshots/metrics.txt` pins them.

/// An enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value of the label.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value of the label, in snake case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

label! {
    /// The route that a request took through the proxy.
    RouteLabel {
        /// A create that may be replayed.
        Create = "create",
        /// Any other short request.
        Call = "call",
        /// A watch or a followed log. The answer has no foreseeable end.
        Stream = "stream",
        /// A connection that becomes a tunnel: exec, attach, port-forward.
        Upgrade = "upgrade",
    }
}

label! {
    /// Why a create whose answer could have been replayed was not.
    NotReplayed {
        /// The request body was larger than one create may buffer.
        BodyTooLarge = "body_too_large",
        /// The memory for buffered bodies was in use.
        BufferFull = "buffer_full",
        /// The body took longer to arrive than a create waits for it.
        BodySlow = "body_slow",
        /// All attempts were used.
        Attempts = "attempts",
        /// The next attempt would have started after the longest hold.
        Hold = "hold",
        /// The client's own timeout could have passed before the next answer.
        ClientTimeout = "client_timeout",
        /// The replay budget was spent.
        Budget = "budget",
        /// Too many creates were waiting.
        HeldFull = "held_full",
        /// The mode is Off.
        ModeOff = "mode_off",
        /// The mode is Observe.
        ModeObserve = "mode_observe",
        /// The proxy was stopping.
        Draining = "draining",
        /// The answer was too large to be judged.
        AnswerTooLarge = "answer_too_large",
        /// Too many creates of the namespace were waiting for a full quota.
        QuotaQueueFull = "quota_queue_full",
        /// The client certificate expired while the create waited, or its CA was removed.
        CertificateEnded = "certificate_ended",
    }
}

impl NotReplayed {
    /// The reason in words, for operators.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "the body is larger than creates.maxBody, so it was streamed",
            Self::BufferFull => "the memory for buffered bodies was in use, so it was streamed",
            Self::BodySlow => "the body came too slowly, so it was streamed",
            Self::Attempts => "all attempts were used",
            Self::Hold => "the next attempt would have started after the longest hold",
            Self::ClientTimeout => {
                "the client's own timeout could have passed before the next answer"
            }
            Self::Budget => "the replay budget was spent",
            Self::HeldFull => "too many creates were waiting already",
            Self::ModeOff => "the mode is Off",
            Self::ModeObserve => "it would have been replayed, but the mode is Observe",
            Self::Draining => "the proxy was stopping",
            Self::AnswerTooLarge => "the answer was too large to be judged",
            Self::QuotaQueueFull => {
                "too many creates of the namespace were waiting for a full quota already"
            }
            Self::CertificateEnded => {
                "the client certificate expired or its CA was removed while the create waited"
            }
        }
    }
}

label! {
    /// How a create ended that had an ambiguous answer: one that does not tell whether the object
    /// was stored.
    Ambiguity {
        /// A lookup found the object, and it was provably of this create: 201.
        Found = "found",
        /// A lookup found no object, and the create was sent again and stored.
        SentAgain = "sent_again",
        /// A lookup found the object of somebody else: 409.
        Exists = "exists",
        /// A lookup found no object, and the last answer was a refusal.
        Refused = "refused",
        /// A lookup found no object, and a limit stopped the replay.
        GaveUp = "gave_up",
        /// A lookup found an object, and nobody can know whose it is.
        Unproven = "unproven",
        /// The caller may not get the object.
        Forbidden = "forbidden",
        /// No lookup got an answer within the limits.
        Failed = "failed",
        /// The create cannot be looked for: it has no name, or is an apply.
        Unnamed = "unnamed",
        /// The client left before it was known.
        ClientGone = "client_gone",
        /// `replay.ambiguous` is Relay, or the mode is Observe.
        Relayed = "relayed",
    }
}

label! {
    /// The limit that was reached.
    Scope {
        /// The limit of the create's namespace.
        Namespace = "namespace",
        /// The limit of all creates together.
        Global = "global",
    }
}

label! {
    /// The kind of a replay budget.
    BudgetKind {
        /// Replays after a quota conflict.
        QuotaConflict = "quota_conflict",
        /// Replays after everything else.
        Other = "other",
    }
}

label! {
    /// How a create learns that a full quota has room.
    QuotaWait {
        /// The watch of the quotas tells.
        Watch = "watch",
        /// It is sent again from time to time.
        Poll = "poll",
    }
}

label! {
    /// Why a create that waits for a full quota is sent again.
    QuotaWake {
        /// The status of the quotas says that it fits.
        Fits = "fits",
        /// The quota can no longer hold it.
        NeverFits = "never_fits",
        /// Nothing was sent for a while.
        Anyway = "anyway",
        /// Its pause is over.
        Poll = "poll",
    }
}

label! {
    /// The kind of an open stream.
    StreamKind {
        /// A watch or followed log.
        Stream = "stream",
        /// An upgraded connection.
        Upgrade = "upgrade",
    }
}

label! {
    /// Why the creates of a namespace go to another apiserver.
    PinMove {
        /// Their apiserver failed, is not ready or is no longer listed.
        Failed = "failed",
        /// The apiserver that the namespace belongs to is back.
        Returned = "returned",
    }
}

label! {
    /// One of the proxy's own ports.
    Port {
        /// The port for clients.
        Serving = "serving",
        /// The port for probes and metrics.
        Admin = "admin",
    }
}

label! {
    /// Why the proxy closed a connection to one of its ports.
    Closed {
        /// A new connection needed its place, and it had been idle for longest.
        Room = "room",
        /// It was refused, because its address already had its share of the connections, and all of
        /// them were busy.
        Share = "share",
        /// It was idle for too long.
        Idle = "idle",
    }
}

label! {
    /// The part that was reloaded at run time.
    Reloaded {
        /// The configuration file.
        Config = "config",
        /// The serving certificate.
        Certificate = "certificate",
        /// The CA that verifies the upstream.
        UpstreamCa = "upstream_ca",
        /// The CAs that issue client certificates.
        ClientCa = "client_ca",
        /// The certificate that the proxy shows to the upstream.
        FrontProxyCertificate = "front_proxy_certificate",
    }
}

label! {
    /// What became of a request with a client certificate.
    CertificateUse {
        /// It was sent in the name of the certificate's user.
        Accepted = "accepted",
        /// The certificate did not count, and a token beside it did.
        Token = "token",
        /// The certificate did not count, and there was nothing else (401).
        Refused = "refused",
        /// The certificate's user may not pass (403).
        Denied = "denied",
    }
}
