//! The label values that are known beforehand, one enum a label.
//!
//! Being enums they bound the labels, and their `ALL` lets every counter start at 0. The names are
//! API: the snapshot pins them.

/// An enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value.
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
    /// How a request went through the proxy.
    RouteLabel {
        /// A create that may be replayed.
        Create = "create",
        /// Any other short request.
        Call = "call",
        /// A watch, a followed log: an answer that does not end by itself.
        Stream = "stream",
        /// A connection that left HTTP: exec, attach, port-forward.
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
        /// The body took longer to come than a create waits for one.
        BodySlow = "body_slow",
        /// No attempts were left.
        Attempts = "attempts",
        /// The next attempt would have started after the longest hold.
        Hold = "hold",
        /// The client's own timeout could have passed before the next attempt's answer.
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
    }
}

impl NotReplayed {
    /// The reason as a clause for operators.
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
        }
    }
}

label! {
    /// Which of two limits was reached.
    Scope {
        /// The limit of the create's namespace.
        Namespace = "namespace",
        /// The limit of all creates together.
        Global = "global",
    }
}

label! {
    /// Which of the replay budgets.
    BudgetKind {
        /// Replays after a quota conflict.
        QuotaConflict = "quota_conflict",
        /// Replays after everything else.
        Other = "other",
    }
}

label! {
    /// What is open for long.
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
        /// Theirs failed, is not ready or is no longer listed.
        Failed = "failed",
        /// The one that the namespace belongs to is there again.
        Returned = "returned",
    }
}

label! {
    /// Which of the proxy's own ports.
    Port {
        /// That of the clients.
        Serving = "serving",
        /// That of probes and metrics.
        Admin = "admin",
    }
}

label! {
    /// Why the proxy closed a connection that came to one of its ports.
    Closed {
        /// It was without a request for longest when another one came and all places were taken.
        Room = "room",
        /// It was refused: its address had its share of the places, all of them busy.
        Share = "share",
        /// It was without a request for too long.
        Idle = "idle",
    }
}

label! {
    /// What was loaded again at run time.
    Reloaded {
        /// The configuration file.
        Config = "config",
        /// The serving certificate.
        Certificate = "certificate",
        /// The CA that verifies the upstream.
        UpstreamCa = "upstream_ca",
    }
}
