//! Handshakes over an in-memory pipe, with certificates made here.

mod doubts;
mod files;
mod go;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::{SignatureAlgorithm, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::verify::{Roots, ServerVerifier};
use super::*;
use crate::config::{self, CaSource};
use crate::kubeconfig;
use crate::rows::every;

fn hosts(hosts: &[&str]) -> config::SelfSignedConfig {
    config::SelfSignedConfig {
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        ..Default::default()
    }
}

fn kept_in(directory: &Path, names: &[&str]) -> config::SelfSignedConfig {
    config::SelfSignedConfig {
        directory: Some(directory.to_owned()),
        ..hosts(names)
    }
}

/// Connects, and returns the protocol that both sides agreed on and whether the client presented a
/// certificate.
async fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    host: &str,
) -> io::Result<(Vec<u8>, bool)> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let accepted = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"x").await?;
        let connection = stream.get_ref().1;
        Ok::<_, io::Error>((
            connection.alpn_protocol().unwrap_or_default().to_vec(),
            connection.peer_certificates().is_some(),
        ))
    });
    let name = server_name(host).unwrap();
    let mut stream = TlsConnector::from(client).connect(name, near).await?;
    stream.read_u8().await?;
    accepted.await.unwrap()
}

fn trusting(ca: &str, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    client_config(Some(&CaSource::Pem(ca.as_bytes().to_vec())), alpn).unwrap()
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_for_each_of_its_hosts_by_its_ca_only() {
    let made = self_signed(&hosts(&["localhost", "127.0.0.1", "::1"])).unwrap();
    let server = server_config(Arc::new(made.certificate)).unwrap();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let agreed = handshake(server.clone(), trusting(&made.ca_pem, &[H2, HTTP1]), host)
            .await
            .unwrap();
        assert_eq!(agreed, (H2.to_vec(), false), "{host}");
    }
    let agreed = handshake(
        server.clone(),
        trusting(&made.ca_pem, &[HTTP1]),
        "localhost",
    )
    .await
    .unwrap();
    assert_eq!(agreed.0, HTTP1);
    handshake(server.clone(), trusting(&made.ca_pem, &[H2]), "example.com")
        .await
        .unwrap_err();
    let other = self_signed(&hosts(&["localhost"])).unwrap();
    handshake(server, trusting(&other.ca_pem, &[H2]), "localhost")
        .await
        .unwrap_err();
}

/// Whichever of the two the processor has made `provider` choose, the other one is at the other end.
#[tokio::test]
async fn every_cipher_suite_of_both_libraries_is_served() {
    let made = self_signed(&hosts(&["localhost"])).unwrap();
    let server = server_config(Arc::new(made.certificate)).unwrap();
    let names = |suites: &[SupportedCipherSuite]| Vec::from_iter(suites.iter().map(|s| s.suite()));
    assert_eq!(
        names(ring::DEFAULT_CIPHER_SUITES),
        names(aws_lc_rs::DEFAULT_CIPHER_SUITES)
    );
    let both = [
        aws_lc_rs::DEFAULT_CIPHER_SUITES,
        ring::DEFAULT_CIPHER_SUITES,
    ]
    .concat();
    let mut served = 0;
    for suite in both {
        if !suite.usable_for_signature_algorithm(SignatureAlgorithm::ECDSA) {
            continue;
        }
        let client = CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        };
        let roots = Roots::read(made.ca_pem.as_bytes(), "ca").unwrap();
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(client))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(roots, &provider())))
            .with_no_client_auth();
        handshake(server.clone(), Arc::new(client), "localhost")
            .await
            .unwrap_or_else(|error| panic!("{suite:?}: {error}"));
        served += 1;
    }
    assert_eq!(served, 12, "three of TLS 1.3 and three of TLS 1.2, twice");
}

#[tokio::test]
async fn a_client_certificate_of_an_unknown_ca_is_seen_and_does_not_end_tls_1_2() {
    assert_unknown_client_is_seen(&rustls::version::TLS12).await;
}

#[tokio::test]
async fn a_client_certificate_of_an_unknown_ca_is_seen_and_does_not_end_tls_1_3() {
    assert_unknown_client_is_seen(&rustls::version::TLS13).await;
}

async fn assert_unknown_client_is_seen(version: &'static SupportedProtocolVersion) {
    let directory = tempfile::tempdir().unwrap();
    self_signed(&kept_in(directory.path(), &["some-client"])).unwrap();
    let pem = |name: &str| fs::read(directory.path().join(name)).unwrap();

    let made = self_signed(&hosts(&["localhost"])).unwrap();
    let server = server_config(Arc::new(made.certificate)).unwrap();
    let roots = Roots::read(made.ca_pem.as_bytes(), "ca").unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(roots, &provider())))
        .with_client_auth_cert(
            super::pem::certificates(&pem("tls.crt"), "tls.crt").unwrap(),
            super::pem::private_keys(&pem("tls.key"), "tls.key")
                .unwrap()
                .remove(0),
        )
        .unwrap();
    let (_, presented) = handshake(server, Arc::new(client), "localhost")
        .await
        .unwrap();
    assert!(presented);
}

#[tokio::test]
async fn a_changed_pair_of_files_is_served_after_a_reload_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let first = self_signed(&kept_in(directory.path(), &["localhost"])).unwrap();
    let certificate =
        Arc::new(OwnCertificate::from_files(&path("tls.crt"), &path("tls.key")).unwrap());
    let server = server_config(certificate.clone()).unwrap();
    assert!(!certificate.reload().unwrap());
    handshake(server.clone(), trusting(&first.ca_pem, &[H2]), "localhost")
        .await
        .unwrap();

    let old_key = fs::read(path("tls.key")).unwrap();
    fs::remove_file(path("ca.crt")).unwrap();
    let second = self_signed(&kept_in(directory.path(), &["localhost"])).unwrap();
    let new_key = fs::read(path("tls.key")).unwrap();
    fs::write(path("tls.key"), &old_key).unwrap();
    let error = certificate.reload().unwrap_err();
    assert!(
        error.to_string().contains("does not fit the certificate"),
        "{error}"
    );
    handshake(server.clone(), trusting(&first.ca_pem, &[H2]), "localhost")
        .await
        .unwrap();

    fs::write(path("tls.key"), &new_key).unwrap();
    assert!(certificate.reload().unwrap());
    handshake(server, trusting(&second.ca_pem, &[H2]), "localhost")
        .await
        .unwrap();
}

#[test]
fn a_self_signed_certificate_lasts_a_year() {
    let made = self_signed(&hosts(&["localhost"])).unwrap();
    let remaining = made
        .certificate
        .not_after()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(
        remaining > Duration::from_secs(364 * 86_400)
            && remaining < Duration::from_secs(366 * 86_400),
        "{remaining:?}"
    );
    assert!(!made.certificate.reload().unwrap());
}

#[test]
fn a_restart_keeps_the_certificate_and_other_hosts_get_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let first = self_signed(&kept_in(directory.path(), &["localhost", "127.0.0.1"]))
        .unwrap()
        .ca_pem;
    assert_eq!(
        self_signed(&kept_in(directory.path(), &["localhost", "127.0.0.1"]))
            .unwrap()
            .ca_pem,
        first
    );
    let second = self_signed(&kept_in(directory.path(), &["localhost", "proxy.argo.svc"]))
        .unwrap()
        .ca_pem;
    assert_ne!(second, first);
    fs::write(directory.path().join("tls.key"), "damaged").unwrap();
    assert_ne!(
        self_signed(&kept_in(directory.path(), &["localhost", "proxy.argo.svc"]))
            .unwrap()
            .ca_pem,
        second
    );
    let mode = |name: &str| {
        fs::metadata(directory.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("ca.crt"), mode("tls.crt"), mode("tls.key")),
        (0o644, 0o644, 0o600)
    );
}

#[test]
fn the_written_kubeconfig_leads_to_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    fs::write(directory.path().join("namespace"), "argo\n").unwrap();
    let config = config::SelfSignedConfig {
        token_file,
        ..kept_in(directory.path(), &["::1"])
    };
    let made = self_signed(&config).unwrap();
    let (path, warnings) = write_kubeconfig(&config, &made.ca_pem, 8443)
        .unwrap()
        .unwrap();
    assert_eq!(warnings, []);
    let endpoint = kubeconfig::read_endpoint(&path, None).unwrap();
    assert_eq!(endpoint.server, "https://[::1]:8443");
    assert_eq!(endpoint.ca, Some(CaSource::Pem(made.ca_pem.into_bytes())));
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("namespace: argo")
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o644
    );
    assert_eq!(
        write_kubeconfig(&hosts(&["localhost"]), "", 1).unwrap(),
        None
    );
}

#[test]
fn the_server_in_the_kubeconfig_is_an_address_that_the_proxy_listens_on() {
    let default = config::SelfSignedConfig::default().hosts;
    let default: Vec<&str> = default.iter().map(String::as_str).collect();
    let reached = |hosts: &[&str], bind: &str| {
        let config = config::SelfSignedConfig {
            hosts: hosts.iter().map(|host| host.to_string()).collect(),
            ..Default::default()
        };
        reached_at(&config, bind.parse().unwrap()).hosts.join(" ")
    };
    every(
        [
            (&default[..], "0.0.0.0", "127.0.0.1 localhost ::1"),
            (&default, "127.0.0.1", "127.0.0.1 localhost ::1"),
            (&default, "::", "localhost 127.0.0.1 ::1"),
            (&default, "::1", "::1 localhost 127.0.0.1"),
            (&default, "10.0.0.5", "10.0.0.5 localhost 127.0.0.1 ::1"),
            (&default, "fd00::5", "fd00::5 localhost 127.0.0.1 ::1"),
            (&default, "127.0.0.2", "127.0.0.2 localhost 127.0.0.1 ::1"),
            (&default, "::ffff:127.0.0.1", "127.0.0.1 localhost ::1"),
            (&["::1"], "0.0.0.0", "127.0.0.1 ::1"),
            (&["::1"], "::", "::1"),
            (&["127.0.0.1"], "::", "127.0.0.1"),
            (
                &["proxy.argo.svc", "10.0.0.5"],
                "0.0.0.0",
                "proxy.argo.svc 10.0.0.5",
            ),
            (
                &["proxy.argo.svc", "10.0.0.5"],
                "10.0.0.5",
                "proxy.argo.svc 10.0.0.5",
            ),
            (&["proxy.argo.svc"], "127.0.0.1", "127.0.0.1 proxy.argo.svc"),
            (&["10.0.0.9", "10.0.0.5"], "10.0.0.5", "10.0.0.5 10.0.0.9"),
        ],
        |(hosts, bind, expected)| assert_eq!(reached(hosts, bind), expected),
    );
}

#[test]
fn errors_name_the_file_and_the_expected_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    self_signed(&kept_in(directory.path(), &["localhost"])).unwrap();
    fs::write(path("empty"), "").unwrap();
    let load = |certificate: &str, key: &str| {
        let error = OwnCertificate::from_files(&path(certificate), &path(key)).unwrap_err();
        error
            .to_string()
            .replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(load("nowhere", "tls.key"), "cannot read nowhere");
    assert_eq!(
        load("empty", "tls.key"),
        "empty holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----"
    );
    assert_eq!(
        load("tls.crt", "tls.crt"),
        "tls.crt holds no private key: expected unencrypted PEM, -----BEGIN PRIVATE KEY----- (found CERTIFICATE at line 1)"
    );
    assert_eq!(
        load("ca.crt", "tls.key"),
        "the private key tls.key does not fit the certificate ca.crt"
    );
}

#[test]
fn an_upstream_needs_a_ca() {
    assert!(
        client_config(None, &[H2])
            .unwrap_err()
            .to_string()
            .contains("--upstream-ca-file")
    );
    let damaged =
        CaSource::Pem(b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n".to_vec());
    assert!(
        client_config(Some(&damaged), &[])
            .unwrap_err()
            .to_string()
            .contains("damaged PEM")
    );
    let nonsense =
        CaSource::Pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    assert!(
        client_config(Some(&nonsense), &[])
            .unwrap_err()
            .to_string()
            .contains("can serve as a CA")
    );
}

#[test]
fn a_server_is_verified_by_its_name_or_address() {
    assert_eq!(
        server_name("kubernetes.default.svc").unwrap().to_str(),
        "kubernetes.default.svc"
    );
    assert_eq!(server_name("[fd00::1]").unwrap().to_str(), "fd00::1");
    server_name("not a name").unwrap_err();
}

#[test]
fn the_error_names_an_invalid_host() {
    let error = self_signed(&hosts(&["localhost", "ö"])).unwrap_err();
    assert!(error.to_string().contains("ö"), "{error}");
}
