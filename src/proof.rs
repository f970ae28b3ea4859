//! Whether a stored object is the one that a create sent, and the names that the proxy fills in.
//! Pure. `create` calls it after an answer that does not tell whether the object was stored.
//!
//! **What proves that an object is ours.** All of this must hold:
//!
//! 1. It was created no earlier than the first attempt was sent, by the server's own clock: the
//!    `Date` of the lookup's answer, less the time since then.
//! 2. No other create of this proxy can have stored it (`create/claims.rs`): none was told its uid,
//!    and none of the same name is in flight or ended without an answer.
//! 3. Its `managedFields` have an entry of our manager with the operation `Update`.
//! 4. It has the same owner references and every field that was sent. An empty field that was sent
//!    may have any value, because Go omits empty fields and the apiserver fills in defaults. The
//!    elements of a list must be there in their order; webhooks may add others between them.
//!
//! **What proves that it is not ours.** Another create of this proxy was told its uid; or it is
//! older than our first attempt by more than clocks of a cluster differ; or both its manager and
//! its content are others. One of the last two alone proves nothing: a webhook may change what was
//! sent, and a proxy on the way may change `User-Agent`.
//!
//! In all other cases nobody can know. docs/ambiguous-creates.md lists what this cannot see.

mod body;
mod json;
mod name;
mod protobuf;

pub use body::{Names, names, with_name};
pub use json::uid_of_json;
pub use name::{generated_name, path_segment};

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::quantity::Quantity;
use crate::status::Encoding;

/// How far the clocks of two apiservers may differ, in seconds. etcd warns of one second.
const MAX_SKEW: i64 = 10;

/// The create whose object is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The object as it was sent.
    pub body: &'a [u8],
    /// The namespace in the URL.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The field manager, as the apiserver derives it from the request. None: it is not known.
    pub manager: Option<&'a str>,
    /// The time of the first attempt by the server's clock, in whole seconds since 1970, rounded
    /// down. None: the answer does not tell the server's clock.
    pub at: Option<i64>,
}

/// What an object proves about a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The create may have stored it, and nothing else that is known has. `create` asks the other
    /// creates of this proxy before it believes this.
    Ours,
    /// Something else stored it.
    Foreign(&'static str),
    /// Nobody can know.
    Unknown(&'static str),
}

/// An object that a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `metadata.uid`, never empty.
    pub uid: String,
    /// What it proves.
    pub proof: Proof,
}

/// What is read of an object beside its content.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    name: String,
    namespace: String,
    uid: String,
    /// In seconds since 1970.
    created: Option<i64>,
    /// Manager and operation of each entry of `managedFields`.
    managers: Vec<(String, String)>,
    /// Whether everything that was sent is there, and the owners are the same.
    contains: bool,
}

/// Compares the object in `answer` with the one that was sent. Both have the same encoding; YAML
/// is compared with JSON, and CBOR is not compared. None: the answer is no such object.
#[must_use]
pub fn compare(sent: &Sent<'_>, answer: &[u8]) -> Option<Found> {
    let facts = match Encoding::sniff(sent.body) {
        Encoding::Protobuf => protobuf::facts(sent.body, answer)?,
        Encoding::Json | Encoding::Yaml => json::facts(sent.body, answer)?,
        Encoding::Cbor => return None,
    };
    if facts.uid.is_empty() || facts.name != sent.name || facts.namespace != sent.namespace {
        return None;
    }
    let proof = judge(sent, &facts);
    Some(Found {
        uid: facts.uid,
        proof,
    })
}

fn judge(sent: &Sent<'_>, facts: &Facts) -> Proof {
    let (Some(at), Some(created)) = (sent.at, facts.created) else {
        return Proof::Unknown("the time of its creation cannot be compared");
    };
    if created < at.saturating_sub(MAX_SKEW) {
        return Proof::Foreign("it was created before this create came");
    }
    let updates = |manager: &str| {
        let mut entries = facts.managers.iter();
        entries.any(|(each, operation)| each == manager && operation == "Update")
    };
    let is_our_manager = sent.manager.is_some_and(updates);
    match (is_our_manager, facts.contains) {
        (true, true) if created >= at => Proof::Ours,
        (true, true) => Proof::Unknown("it was created at about the time when this create came"),
        (true, false) => Proof::Unknown("it does not have everything that was sent"),
        (false, false) if sent.manager.is_some() && !facts.managers.is_empty() => {
            Proof::Foreign("another manager created it with another content")
        }
        (false, _) => Proof::Unknown("its managedFields do not have the manager of this create"),
    }
}

/// The server's clock at the time of the first attempt, from the `Date` of an answer that came
/// `since` after it. Rounded down, since both times have whole seconds.
#[must_use]
pub fn server_time(date: Option<&HeaderValue>, since: std::time::Duration) -> Option<i64> {
    let date = OffsetDateTime::parse(date?.to_str().ok()?, &Rfc2822).ok()?;
    let since = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    date.unix_timestamp()
        .checked_sub(i64::try_from(since).ok()?)
}

/// A time as in `creationTimestamp`, in seconds since 1970.
fn rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp())
}

/// Whether both texts are quantities of the same value, as in `1000m` and `1`: the apiserver writes
/// quantities in its own way.
fn is_same_amount(one: &str, other: &str) -> bool {
    let amount = |text: &str| text.parse::<Quantity>().ok();
    amount(one).is_some_and(|one| amount(other) == Some(one))
}

/// The uid of an object in any encoding but CBOR. None: it is not an object, or has none.
#[must_use]
pub fn uid_of(object: &[u8]) -> Option<String> {
    match Encoding::sniff(object) {
        Encoding::Protobuf => protobuf::uid(object),
        Encoding::Json => uid_of_json(object),
        Encoding::Yaml => json::uid_of_yaml(object),
        Encoding::Cbor => None,
    }
    .filter(|uid| !uid.is_empty())
}

#[cfg(test)]
mod tests;
