//! How creates end.

use super::table::table;

table! {
    /// How a create ended, for its client: its label, and the same in words for operators.
    ///
    /// The labels are metric labels: do not rename them.
    pub enum Outcome: (&'static str, &'static str) {
        /// The first attempt succeeded.
        Created = ("created", "created at the first attempt"),
        /// A later attempt succeeded: this is what the proxy is for.
        CreatedAfterReplay = ("created_after_replay", "created after a replay"),
        /// The answer was ambiguous, and a lookup found the object.
        Resolved = ("resolved", "created, as a lookup found"),
        /// The first answer was final and not a success.
        Refused = ("refused", "refused"),
        /// A replay ended in an answer that was final and not a success.
        RefusedAfterReplay = ("refused_after_replay", "refused after a replay"),
        /// The answer could have been replayed, but a limit was reached; it was relayed.
        GaveUp = ("gave_up", "gave up at a limit"),
        /// The client left before there was an answer.
        ClientGone = ("client_gone", "the client left"),
        /// The upstream gave no answer; the proxy wrote one.
        NoAnswer = ("no_answer", "no answer from upstream"),
        /// The rate limit was reached; the proxy answered 429.
        RateLimited = ("rate_limited", "refused by the rate limit"),
        /// The answer would have been replayed, but the mode says to observe only; it was relayed.
        Observed = ("observed", "only observed"),
    }
}

impl Outcome {
    /// The label, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The outcome in words, for operators.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        self.row().1
    }

    /// Whether the object was stored.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        matches!(
            self,
            Self::Created | Self::CreatedAfterReplay | Self::Resolved
        )
    }
}
