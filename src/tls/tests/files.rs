//! Certificates and keys in the forms in which tools write them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
    SignatureAlgorithm,
};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use x509_cert::der::asn1::{AnyRef, OctetStringRef};
use x509_cert::der::{Reader, SliceReader};

use super::super::verify::{Roots, ServerVerifier};
use super::*;
use crate::rows::every;
use crate::telemetry::chain;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A server's certificate, its intermediate CA and its root.
struct Pki {
    root: String,
    middle: String,
    leaf: String,
    key: KeyPair,
}

impl Pki {
    fn new(key: KeyPair) -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params
        };
        let new_key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), new_key()).unwrap();
        let middle = CertifiedIssuer::signed_by(authority("middle"), new_key(), &root).unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        Self {
            leaf: leaf.signed_by(&key, &middle).unwrap().pem(),
            root: root.pem(),
            middle: middle.pem(),
            key,
        }
    }

    fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        Self::new(KeyPair::generate_for(algorithm).unwrap())
    }

    fn pkcs8(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    /// The key inside the PKCS#8: PKCS#1 for RSA, SEC1 for ECDSA.
    fn inner_key(&self) -> Vec<u8> {
        let pkcs8 = self.key.serialize_der();
        let inner = SliceReader::new(&pkcs8).unwrap().sequence(|info| {
            info.decode::<u8>()?;
            info.decode::<AnyRef<'_>>()?;
            let inner = info.decode::<&OctetStringRef>()?.as_bytes().to_vec();
            while !info.is_finished() {
                info.tlv_bytes()?;
            }
            Ok::<_, x509_cert::der::Error>(inner)
        });
        inner.unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// Writes both files, and loads them.
fn load(folder: &TempDir, certificate: &str, key: &str) -> Result<OwnCertificate, TlsError> {
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    OwnCertificate::from_files(&path("tls.crt", certificate), &path("tls.key", key))
}

/// Connects to a server with these files, and returns what the client says.
async fn served(
    pki: &Pki,
    certificate: &str,
    key: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&folder, certificate, key).map_err(|error| chain(&error).to_string())?;
    let server = server_config(Arc::new(loaded)).unwrap();
    let roots = Roots::read(pki.root.as_bytes(), "root").unwrap();
    let provider = provider();
    let verifier = Arc::new(ServerVerifier::new(roots, &provider));
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let shaken = handshake(server, Arc::new(client), "localhost").await;
    shaken
        .map(|_| ())
        .map_err(|error| chain(&error).to_string())
}

#[tokio::test]
async fn every_type_of_key_is_served_and_verified_in_both_versions() {
    let mut pkis = vec![Pki::new(
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
    )];
    pkis.extend(
        [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ECDSA_P521_SHA512,
            &PKCS_ED25519,
        ]
        .map(Pki::of),
    );
    for pki in &pkis {
        for version in [&TLS12, &TLS13] {
            let certificate = format!("{}{}", pki.leaf, pki.middle);
            let served = served(pki, &certificate, &pki.pkcs8(), version).await;
            assert_eq!(served, Ok(()), "{:?} {version:?}", pki.key.algorithm());
        }
    }
}

#[tokio::test]
async fn keys_and_chains_are_read_in_every_form() {
    let ec = &Pki::of(&PKCS_ECDSA_P256_SHA256);
    let rsa = &Pki::new(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());
    let other = Pki::of(&PKCS_ECDSA_P384_SHA384);
    let Pki {
        leaf, middle, root, ..
    } = ec;
    let chain = format!("{leaf}{middle}");
    let key = ec.pkcs8();
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let parameters = pem(
        "EC PARAMETERS",
        &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
    );
    let rows: Vec<(&str, &Pki, String, String)> = vec![
        ("PKCS#8", ec, chain.clone(), key.clone()),
        (
            "SEC1",
            ec,
            chain.clone(),
            pem("EC PRIVATE KEY", &ec.inner_key()),
        ),
        (
            "SEC1 after its parameters",
            ec,
            chain.clone(),
            format!("{parameters}{}", pem("EC PRIVATE KEY", &ec.inner_key())),
        ),
        (
            "PKCS#1",
            rsa,
            format!("{}{}", rsa.leaf, rsa.middle),
            pem("RSA PRIVATE KEY", &rsa.inner_key()),
        ),
        (
            "a wrong label",
            ec,
            chain.clone(),
            pem("PRIVATE KEY", &ec.inner_key()),
        ),
        (
            "another wrong label",
            rsa,
            format!("{}{}", rsa.leaf, rsa.middle),
            pem("RSA PRIVATE KEY", &rsa.key.serialize_der()),
        ),
        (
            "issuers first",
            ec,
            format!("{root}{middle}{leaf}"),
            key.clone(),
        ),
        (
            "a stranger first",
            ec,
            format!("{}{leaf}{middle}", other.leaf),
            key.clone(),
        ),
        (
            "everything twice",
            ec,
            format!("{chain}{chain}"),
            key.repeat(2),
        ),
        (
            "text between the blocks",
            ec,
            format!("Certificate:\n  Data: -----\n{leaf}\nsubject=x\n{middle} end"),
            format!("Bag Attributes: x\n{key}"),
        ),
        ("CRLF", ec, crlf(&chain), crlf(&key)),
        ("CR", ec, chain.replace('\n', "\r"), key.replace('\n', "\r")),
        (
            "a byte order mark",
            ec,
            format!("\u{feff}{chain}"),
            format!("\u{feff}{key}"),
        ),
        (
            "indentation",
            ec,
            chain.replace('\n', "\n    "),
            key.replace('\n', "  \n\t"),
        ),
        (
            "both in one file",
            ec,
            format!("{key}{chain}"),
            format!("{key}{chain}"),
        ),
        (
            "several keys",
            ec,
            chain.clone(),
            format!("{}{key}", other.pkcs8()),
        ),
        (
            "no newline at the end",
            ec,
            chain.trim_end().to_owned(),
            key.trim_end().to_owned(),
        ),
    ];
    for (name, pki, certificate, key) in rows {
        let served = served(pki, &certificate, &key, &TLS13).await;
        assert_eq!(served, Ok(()), "{name}");
    }
}

/// As in Go. A bundle with nothing but damaged blocks is an error.
#[test]
fn damaged_blocks_of_a_bundle_cost_only_themselves() {
    let root = Pki::of(&PKCS_ECDSA_P256_SHA256).root;
    let cut = &root[..root.len() / 2];
    let not_base64 = root.replacen("\nM", "\n?", 1);
    let nonsense = pem("CERTIFICATE", &[0, 1, 2]);
    let other = "-----BEGIN DH PARAMETERS-----\n!\n-----END DH PARAMETERS-----\n";
    for (name, damaged) in [
        ("cut", cut),
        ("not base64", &not_base64),
        ("not a certificate", &nonsense),
        ("of another kind", other),
    ] {
        for text in [format!("{damaged}\n{root}"), format!("{root}{damaged}")] {
            Roots::read(text.as_bytes(), "ca.crt")
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(Roots::read(damaged.as_bytes(), "ca.crt").is_err(), "{name}");
    }
}

#[test]
fn what_cannot_be_used_is_named_with_file_and_line() {
    let pki = Pki::of(&PKCS_ECDSA_P256_SHA256);
    let other_key = Pki::of(&PKCS_ECDSA_P256_SHA256).pkcs8();
    let key = pki.pkcs8();
    let (leaf, chain_of) = (&pki.leaf, format!("{}{}", pki.leaf, pki.middle));
    let legacy = key.replace(
        "KEY-----\nM",
        "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nM",
    );
    let cut = &leaf[..leaf.len() / 2];
    let lines = leaf.lines().count();
    let rows: Vec<(&str, &str, String)> = vec![
        (leaf, "", "tls.key holds no private key: expected unencrypted PEM, -----BEGIN PRIVATE KEY-----".into()),
        (leaf, leaf, "tls.key holds no private key: expected unencrypted PEM, -----BEGIN PRIVATE KEY----- (found CERTIFICATE at line 1)".into()),
        (&key, &key, "tls.crt holds no certificate: expected PEM, -----BEGIN CERTIFICATE----- (found PRIVATE KEY at line 1)".into()),
        (leaf, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "the private key at line 1 of tls.key is encrypted: give a file without a password (openssl pkey -in FILE -out FILE)".into()),
        (leaf, &legacy, "the private key at line 1 of tls.key is encrypted: give a file without a password (openssl pkey -in FILE -out FILE)".into()),
        (leaf, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "the OPENSSH PRIVATE KEY at line 1 of tls.key is neither PKCS#8 nor PKCS#1 nor SEC1".into()),
        (cut, &key, "tls.crt is damaged PEM: the block CERTIFICATE at line 1 cannot be read: it has no END line".into()),
        (&chain_of, &other_key, "the private key tls.key does not fit the certificate tls.crt".into()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let error_of = |certificate: &str, key: &str| {
        let error = load(&folder, certificate, key).unwrap_err();
        let place = format!("{}/", folder.path().display());
        chain(&error).to_string().replace(&place, "")
    };
    every(rows, |(certificate, key, expected)| {
        assert_eq!(error_of(certificate, key), expected);
    });
    let damaged = format!("{leaf}# second\n{}", leaf.replacen("\nM", "\n?", 1));
    let error = error_of(&damaged, &key);
    let expected = format!(
        "tls.crt is damaged PEM: the block CERTIFICATE at line {} cannot be read: it is not base64",
        lines + 2
    );
    assert!(error.starts_with(&expected), "{error}");
    let nonsense = format!("{leaf}{}", pem("CERTIFICATE", &[0, 1, 2]));
    let error = error_of(&nonsense, &key);
    assert!(
        error.starts_with("certificate 2 of tls.crt cannot be parsed"),
        "{error}"
    );
    let mut ed448 = vec![48, 71, 2, 1, 0, 48, 5, 6, 3, 0x2b, 0x65, 0x71, 4, 59, 4, 57];
    ed448.extend([1; 57]);
    let strange = pem("PRIVATE KEY", &ed448);
    let error = error_of(leaf, &strange);
    assert!(
        error.starts_with("the private key tls.key cannot be used: use RSA"),
        "{error}"
    );
}
