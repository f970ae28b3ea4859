//! Compares the verdicts of `chain` with those of Go, on certificates made by openssl. See
//! `tests/certificates/make.sh`.

use std::fs;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine as _};
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::super::verify::{Roots, ServerVerifier};
use super::super::{pem, provider, refused, server_name};
use crate::rows::every;
use crate::telemetry::chain;

/// 2030-01-01, as in `tests/certificates/oracle.go`.
const NOW: u64 = 1_893_456_000;

/// Where the proxy differs from Go: the end of its error, or nothing if it accepts.
const DIFFERENT: [(&str, Option<&str>); 6] = [
    (
        "key-rsa-1024",
        Some("has a key of type RSA with 1024 bits, which this proxy cannot verify"),
    ),
    (
        "signature-rsa-1024",
        Some("has a key of type RSA with 1024 bits, which this proxy cannot verify"),
    ),
    (
        "signature-P-224-sha256",
        Some("has a key of type ECDSA on P-224, which this proxy cannot verify"),
    ),
    (
        "signature-P-224-sha384",
        Some("has a key of type ECDSA on P-224, which this proxy cannot verify"),
    ),
    (
        "signature-P-224-sha512",
        Some("has a key of type ECDSA on P-224, which this proxy cannot verify"),
    ),
    // Go refuses a handshake in which any certificate does not parse.
    ("chain-with-negative-serial-extra", None),
];

struct Case {
    name: String,
    host: String,
    go: String,
    sent: Vec<CertificateDer<'static>>,
    trusted: String,
}

fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "case"));
    let case = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let (head, trusted) = text.split_once("trusted:\n").unwrap();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().to_owned()
        };
        Case {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            host: field("name: "),
            go: field("go: "),
            sent: pem::certificates(head.as_bytes(), "sent").unwrap(),
            trusted: trusted.to_owned(),
        }
    };
    files.map(case).collect()
}

/// None if the proxy accepts the server of this case, else why not.
fn refusal(case: &Case) -> Option<String> {
    let roots = match Roots::read(case.trusted.as_bytes(), "trusted") {
        Ok(roots) => roots,
        Err(error) => return Some(error.to_string()),
    };
    let verifier = ServerVerifier::new(roots, &provider());
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
    let name = server_name(&case.host).unwrap();
    let (leaf, others) = case.sent.split_first().unwrap();
    let verified = verifier.verify_server_cert(leaf, others, &name, &[], now);
    verified.err().map(|error| match refused::cause(&error) {
        Some(cause) => chain(&*cause).to_string(),
        None => error.to_string(),
    })
}

#[test]
fn certificates_are_accepted_as_go_accepts_them() {
    let cases = cases();
    assert!(cases.len() > 140, "{}", cases.len());
    let names: Vec<_> = cases.iter().map(|case| &*case.name).collect();
    for (different, _) in DIFFERENT {
        assert!(names.contains(&different), "{different}");
    }
    every(names, |name| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let ours = refusal(case);
        println!(
            "{name}\n  Go:  {}\n  we:  {}",
            case.go,
            ours.as_deref().unwrap_or("accepted")
        );
        let different = DIFFERENT.iter().find(|(different, _)| *different == name);
        match different {
            Some((_, None)) => assert!(ours.is_none()),
            Some((_, Some(text))) => {
                assert!(ours.is_some_and(|ours| ours.contains(text)));
                assert_eq!(case.go, "accepted");
            }
            None => assert_eq!(ours.is_none(), case.go == "accepted"),
        }
    });
}

/// Certificates that no tool makes, signed correctly: versions, dates before 1970, extensions that
/// stand twice, and name constraints. Each line of the file has a name, the host, Go's verdict, the
/// certificates that are sent, and the one that is trusted.
#[test]
fn odd_certificates_are_accepted_as_go_accepts_them() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/certificates/handmade.tsv"
    );
    let text = fs::read_to_string(file).unwrap();
    let rows: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(rows.len() > 100, "{}", rows.len());
    every(rows, |row| {
        let [name, host, go, sent, trusted] = row[..] else {
            panic!("{row:?}");
        };
        let der = |text: &str| CertificateDer::from(BASE64.decode(text).unwrap());
        let case = Case {
            name: name.to_owned(),
            host: host.to_owned(),
            go: go.to_owned(),
            sent: sent.split(',').map(der).collect(),
            trusted: trusted.split(',').map(pem_of).collect(),
        };
        let ours = refusal(&case);
        assert_eq!(
            ours.is_none(),
            go == "accepted",
            "{name}: Go says {go}, we say {ours:?}"
        );
    });
}

fn pem_of(base64: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let rows = [
        (
            "self-signed-unknown",
            "'CN=self' is issued by 'CN=self', which is not among the trusted CAs",
        ),
        (
            "chain-incomplete",
            "'CN=mid2' is issued by 'CN=mid', which is not among the trusted CAs",
        ),
        (
            "key-rsa-1024",
            "the certificate of 'CN=rsa-1024' has a key of type RSA with 1024 bits",
        ),
        (
            "key-P-224",
            "a key of type ECDSA on P-224, which this proxy cannot verify; use RSA",
        ),
        ("key-ED448", "a key of type Ed448"),
        ("key-secp256k1", "a key of type ECDSA on secp256k1"),
        ("key-rsa-pss", "a key of type RSA-PSS"),
        (
            "signature-rsa-2048-sha1",
            "'CN=by-rsa-sha1' is signed with RSA with SHA-1",
        ),
        ("signature-rsa-2048-md5", "is signed with RSA with MD5"),
        ("signature-P-256-sha1", "is signed with ECDSA with SHA-1"),
        (
            "issued-by-a-trusted-server",
            "'CN=self-leaf' may not issue certificates",
        ),
        ("intermediate-expired", "certificate expired"),
        ("not-yet-valid", "certificate not valid yet"),
        (
            "server-with-unknown-critical-extension",
            "the critical extension 1.2.3.4",
        ),
        (
            "constraints-domain-excluded",
            "not allowed to issue a certificate for kubernetes.default.svc",
        ),
        (
            "path-length-0-above-an-intermediate",
            "than its pathLen allows",
        ),
        ("name-10.0.0.2", "not valid for name \"10.0.0.2\""),
        (
            "purpose-client-only",
            "does not allow extended key usage for",
        ),
        (
            "self-signed-of-the-same-name",
            "the signature of 'CN=self' on the certificate of 'CN=self' is wrong",
        ),
        ("serial-negative", "the certificate cannot be parsed"),
    ];
    let cases = cases();
    every(rows, |(name, text)| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let ours = refusal(case).unwrap();
        assert!(ours.contains(text), "{ours}");
    });
}
