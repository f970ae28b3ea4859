//! Files of the front proxy that work, and that somebody may not have meant.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::config::{ServingConfig, UpstreamConfig};
use crate::rows::every;
use crate::tls::doubts;

/// A key that failures do not print.
struct Hidden<'a>(&'a CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CA")
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn files_that_give_everything_away_are_doubtful() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (clients, proxies) = (authority(), authority());
    std::fs::write(path("ca.crt"), clients.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    std::fs::write(path("front.key"), key.serialize_pem()).unwrap();
    every(
        [
            ("good", &proxies, "front-proxy", 0o600, None),
            ("for a group", &proxies, "front-proxy", 0o640, None),
            (
                "the CA of clients",
                &clients,
                "front-proxy",
                0o600,
                Some("any client with a certificate of that CA can be any user"),
            ),
            (
                "for everybody",
                &proxies,
                "front-proxy",
                0o644,
                Some("every user of the machine can read"),
            ),
            (
                "without a name",
                &proxies,
                "",
                0o600,
                Some("has no common name"),
            ),
        ]
        .map(|(what, issuer, name, mode, expected)| (what, name, mode, expected, Hidden(issuer))),
        |(_, name, mode, expected, Hidden(issuer))| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let own = params.signed_by(&key, issuer).unwrap();
            std::fs::write(path("front.crt"), own.pem()).unwrap();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path("front.key"), permissions).unwrap();
            let serving = ServingConfig {
                client_ca_file: Some(path("ca.crt")),
                ..ServingConfig::default()
            };
            let upstream = UpstreamConfig {
                front_proxy_cert_file: Some(path("front.crt")),
                front_proxy_key_file: Some(path("front.key")),
                ..UpstreamConfig::default()
            };
            let found = doubts(&serving, &upstream);
            assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
            assert!(found.iter().all(|doubt| doubt.contains(expected.unwrap())));
        },
    );
    let nowhere = UpstreamConfig {
        front_proxy_cert_file: Some(path("none")),
        front_proxy_key_file: Some(path("none")),
        ..UpstreamConfig::default()
    };
    let serving = ServingConfig {
        client_ca_file: Some(path("none")),
        ..ServingConfig::default()
    };
    assert!(doubts(&serving, &nowhere).is_empty(), "of another machine");
    assert!(doubts(&ServingConfig::default(), &UpstreamConfig::default()).is_empty());
}
