//! The headers with which an authenticating proxy says for whom it asks.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::retain;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
/// The apiserver decodes the key of an extra, because a `/` cannot be in the name of a header.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/user/user.go>
const CREDENTIAL_ID: HeaderName =
    HeaderName::from_static("x-remote-extra-authentication.kubernetes.io%2fcredential-id");

/// The fields that say who asks, made once for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFields(Box<[(HeaderName, HeaderValue)]>);

/// A name that no header can carry as it is: an empty one, one with control characters, or one that
/// begins or ends with a space, which servers cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {what} {name:?} of the client certificate cannot be in a header: it must not be empty, have control characters, or begin or end with a space"
)]
pub struct Uncarriable {
    /// `user`, `group` or `id`.
    pub what: &'static str,
    /// The name.
    pub name: String,
}

impl IdentityFields {
    /// The fields for a user.
    ///
    /// # Errors
    /// A name cannot be in a header.
    pub fn new(
        user: &str,
        uid: Option<&str>,
        groups: &[String],
        credential_id: &str,
    ) -> Result<Self, Uncarriable> {
        let lines = std::iter::once((USER, "user", user))
            .chain(uid.map(|uid| (UID, "id", uid)))
            .chain(groups.iter().map(|group| (GROUP, "group", group.as_str())))
            .chain([(CREDENTIAL_ID, "id", credential_id)]);
        let fields = lines.map(|(field, what, name)| Ok((field, value(what, name)?)));
        Ok(Self(fields.collect::<Result<_, Uncarriable>>()?))
    }

    /// Says in `headers` for whom the request is.
    ///
    /// **Invariant:** no request has these fields unless the proxy has put them there.
    /// [`super::to_upstream`] comes first and removes those of the client. Which connection a
    /// request takes depends on them, see [`is_identified`].
    /// `what_a_client_says_about_itself_never_passes` fails without it.
    ///
    /// `Authorization` goes: where a certificate counts, the apiserver removes it unread.
    pub fn assert(&self, headers: &mut HeaderMap) {
        retain(headers, |name, _| *name != AUTHORIZATION);
        for (name, value) in &self.0 {
            // The limit of 32,768 names is far above what a handshake can carry.
            let _ = headers.try_append(name, value.clone());
        }
    }
}

/// Whether the proxy has said in these headers for whom the request is.
pub fn is_identified(headers: &HeaderMap) -> bool {
    headers.contains_key(USER)
}

fn value(what: &'static str, name: &str) -> Result<HeaderValue, Uncarriable> {
    let is_cut = name.starts_with([' ', '\t']) || name.ends_with([' ', '\t']);
    let mut value = HeaderValue::from_bytes(name.as_bytes())
        .ok()
        .filter(|value| !value.is_empty() && !is_cut)
        .ok_or_else(|| Uncarriable {
            what,
            name: name.to_owned(),
        })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn each_group_has_a_line_and_the_clients_token_goes() {
        let groups = ["b", "a,c", "b", "zo\u{eb}"].map(str::to_owned);
        let fields = IdentityFields::new("jane", Some("7"), &groups, "X509SHA256=00").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("authorization", "Bearer t"),
            ("te", "trailers"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert!(!is_identified(&headers));
        fields.assert(&mut headers);
        assert!(is_identified(&headers));
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str(),
                    std::str::from_utf8(value.as_bytes()).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                ("accept", "*/*"),
                ("te", "trailers"),
                ("x-remote-user", "jane"),
                ("x-remote-uid", "7"),
                ("x-remote-group", "b"),
                ("x-remote-group", "a,c"),
                ("x-remote-group", "b"),
                ("x-remote-group", "zo\u{eb}"),
                (
                    "x-remote-extra-authentication.kubernetes.io%2fcredential-id",
                    "X509SHA256=00"
                ),
            ]
        );
    }

    #[test]
    fn a_name_that_no_header_can_carry_is_refused() {
        every(
            [
                "", " a", "a ", "\ta", "a\t", "a\nb", "a\rb", "a\0", "\x7f", "\x1b[0m",
            ],
            |name| {
                let group = [name.to_owned()];
                IdentityFields::new(name, None, &[], "id").unwrap_err();
                IdentityFields::new("a", Some(name), &[], "id").unwrap_err();
                let error = IdentityFields::new("a", None, &group, "id").unwrap_err();
                assert_eq!((error.what, &*error.name), ("group", name));
            },
        );
        for name in [
            "a b",
            "a\tb",
            "\u{a0}a",
            "system:node:a",
            "*",
            "a%2fb",
            "\u{1f600}",
        ] {
            IdentityFields::new(name, Some(name), &[name.to_owned()], "id").unwrap();
        }
    }
}
