//! Which certificates count, and what the apiserver learns from them.

use http::StatusCode;

use super::pki::{CN, Ca, Credentials, Leaf, O, UID};
use super::{Front, lines, message};
use crate::cases::every;
use crate::support::Protocol;

const USER: &str = "x-remote-user";
const GROUP: &str = "x-remote-group";

#[tokio::test]
async fn the_apiserver_learns_what_it_would_have_read_itself() {
    let front = Front::start(Protocol::Http2).await;
    let ca = &front.clients;
    let subject = |subject: &[(&'static [u8], &str)]| {
        let subject = subject
            .iter()
            .map(|(kind, value)| (*kind, value.as_bytes().to_vec()));
        let subject = subject.collect();
        ca.issue(&Leaf::of("", &[]).with(|leaf| leaf.subject = subject))
    };
    let below = ca.below("below", |_| {});
    let further = below.below("further", |_| {});
    let many: Vec<_> = (0..1000).map(|number| format!("group-{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let of_many = many.iter().map(|group| (GROUP, *group));
    let any_purpose = |purposes| Leaf::of("jane", &[]).with(|leaf| leaf.purposes = purposes);
    let jane = vec![(USER, "jane")];
    let rows = [
        ("no group", ca.client("jane", &[]), jane.clone()),
        (
            "groups",
            ca.client("jane", &["b", "a", "b", "a,c"]),
            vec![
                (USER, "jane"),
                (GROUP, "b"),
                (GROUP, "a"),
                (GROUP, "b"),
                (GROUP, "a,c"),
            ],
        ),
        (
            "the last common name",
            subject(&[(CN, "first"), (O, "g"), (CN, "zo\u{eb} \u{1f600}")]),
            vec![(USER, "zo\u{eb} \u{1f600}"), (GROUP, "g")],
        ),
        (
            "an id",
            subject(&[(UID, "7"), (CN, "jane")]),
            vec![(USER, "jane"), ("x-remote-uid", "7")],
        ),
        (
            "a node",
            ca.client("system:node:a", &["system:nodes"]),
            vec![(USER, "system:node:a"), (GROUP, "system:nodes")],
        ),
        (
            "many groups",
            ca.client("jane", &many),
            std::iter::once((USER, "jane")).chain(of_many).collect(),
        ),
        ("any purpose", ca.issue(&any_purpose(None)), jane.clone()),
        (
            "both purposes",
            ca.issue(&any_purpose(Some(vec![1, 2]))),
            jane.clone(),
        ),
        (
            "CAs in between, in any order, with the root and a stranger",
            further
                .client("jane", &[])
                .and(&[&Ca::new("stranger"), &below, ca, &further]),
            jane,
        ),
    ];
    every(rows, async |(name, credentials, expected)| {
        for authorization in [
            &[][..],
            &[("authorization", "Bearer t")],
            &[("authorization", "x")],
        ] {
            let answer = front.get(Some(&credentials), "/api", authorization).await;
            assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text());
            let seen = front.apiserver.last("/api");
            assert_eq!(seen.identity(), lines(&expected, &credentials));
            assert!(seen.shown.is_some());
            assert!(!seen.headers.contains_key("authorization"));
        }
    })
    .await;
    front.stop().await;
}

/// The certificates that count for nothing, and a part of the message.
fn refused(front: &Front) -> Vec<(&'static str, Credentials, &'static str)> {
    let ca = &front.clients;
    let edited = |edit: fn(&mut Leaf)| ca.issue(&Leaf::of("jane", &[]).with(edit));
    let old = ca.below("old", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let for_servers = ca.below("for servers", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let below = ca.below("below", |_| {});
    let mut damaged = ca.client("jane", &[]);
    damaged.chain[0] = damaged.chain[0][..100].to_vec().into();
    vec![
        (
            "another CA",
            Ca::new("another").client("jane", &[]),
            "the client certificate of 'CN=jane' is not accepted: it must lead to a CA of serving.clientCaFile: the certificate of 'CN=jane' is issued by 'CN=another'",
        ),
        (
            "another CA of the same name",
            Ca::new("clients").client("jane", &[]),
            "the signature of 'CN=clients' on the certificate of 'CN=jane' is wrong",
        ),
        (
            "expired",
            edited(|leaf| leaf.ends = -30),
            "has expired at 20",
        ),
        (
            "not yet valid",
            edited(|leaf| leaf.begins = 600),
            "is not valid before 20",
        ),
        (
            "for servers",
            edited(|leaf| leaf.purposes = Some(vec![1])),
            "its extendedKeyUsage must have clientAuth",
        ),
        (
            "a CA for servers",
            for_servers.client("jane", &[]).and(&[&for_servers]),
            "its extendedKeyUsage must have clientAuth",
        ),
        (
            "an expired CA",
            old.client("jane", &[]).and(&[&old]),
            "has expired at 2020-01-01",
        ),
        (
            "a missing CA",
            below.client("jane", &[]),
            "is issued by 'CN=below'",
        ),
        (
            "no common name",
            edited(|leaf| leaf.subject.clear()),
            "must have a common name",
        ),
        (
            "an empty one",
            ca.client("", &["g"]),
            "must have a common name",
        ),
        (
            "two ids",
            edited(|leaf| {
                leaf.subject
                    .extend([(UID, b"7".into()), (UID, b"8".into())])
            }),
            "at most one user id",
        ),
        (
            "an empty id",
            edited(|leaf| leaf.subject.push((UID, Vec::new()))),
            "at most one user id",
        ),
        (
            "no text",
            edited(|leaf| leaf.subject.push((O, vec![0xff]))),
            "the client certificate cannot be parsed",
        ),
        (
            "the front proxy's own",
            front.proxies.client("front-proxy", &[]),
            "is issued by 'CN=front proxies'",
        ),
    ]
}

#[tokio::test]
async fn a_certificate_that_does_not_count_says_why_and_a_token_beside_it_counts() {
    let front = Front::start(Protocol::Http2).await;
    let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4";
    every(refused(&front), async |(_, credentials, why)| {
        let before = front.apiserver.requests().len();
        for authorization in [
            &[][..],
            &[("authorization", "Basic dTpw")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer  t")],
            &[("sec-websocket-protocol", protocols)],
            &[("impersonate-user", "root")],
        ] {
            let answer = front.get(Some(&credentials), "/api", authorization).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert!(message(&answer).contains(why), "{}", message(&answer));
        }
        assert_eq!(front.apiserver.requests().len(), before);
        for scheme in ["Bearer t", "bearer t u"] {
            let token = [("authorization", scheme), ("x-remote-user", "root")];
            let answer = front.get(Some(&credentials), "/api", &token).await;
            assert_eq!(answer.status, StatusCode::OK);
            let seen = front.apiserver.last("/api");
            assert!(seen.shown.is_none() && seen.identity().is_empty());
            assert_eq!(seen.headers["authorization"], scheme);
        }
    })
    .await;
    assert_eq!((front.used("accepted"), front.used("denied")), (0.0, 0.0));
    assert!(front.used("refused") > front.used("token") && front.used("token") > 0.0);
    front.stop().await;
}

#[tokio::test]
async fn a_user_that_may_not_pass_or_cannot_be_told_is_refused_with_a_token_too() {
    let front = Front::start(Protocol::Http2).await;
    let ca = &front.clients;
    every(
        [
            (
                ca.client("root", &["g", "system:masters"]),
                "user \"root\" has the group \"system:masters\", which serving.clientDeniedGroups lists",
            ),
            (ca.client("a\nb", &[]), "the user \"a\\nb\" of the client certificate cannot be in a header"),
            (ca.client("a ", &[]), "the user \"a \""),
            (ca.client("jane", &[""]), "the group \"\""),
            (ca.client("jane", &["\tg"]), "the group \"\\tg\""),
            (ca.client("jane", &["g\0"]), "the group \"g\\0\""),
        ]
        .map(|(credentials, why)| (why, credentials)),
        async |(why, credentials)| {
            for authorization in [&[][..], &[("authorization", "Bearer t")]] {
                let answer = front.get(Some(&credentials), "/api", authorization).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN);
                assert!(message(&answer).contains(why), "{}", message(&answer));
            }
        },
    )
    .await;
    assert!(front.apiserver.requests().is_empty());
    assert_eq!(front.used("denied"), 12.0);
    front.stop().await;
}

#[tokio::test]
async fn the_denied_groups_are_a_setting() {
    let front = Front::with(Protocol::Http1, |config| {
        config.serving.client_denied_groups = vec!["system:nodes".into()];
    })
    .await;
    let masters = front.clients.client("root", &["system:masters"]);
    assert_eq!(
        front.get(Some(&masters), "/api", &[]).await.status,
        StatusCode::OK
    );
    let node = front.clients.client("system:node:a", &["system:nodes"]);
    let answer = front.get(Some(&node), "/api", &[]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    front.stop().await;
}
