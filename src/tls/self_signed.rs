//! Makes a CA and a certificate at the start, for a proxy without a configured certificate, such as
//! a sidecar.
//!
//! With a directory, the proxy keeps `ca.crt`, `tls.crt` and `tls.key` there, and the next start
//! uses them again while they are good. Clients read the CA only once, so a restarted container
//! with a new CA would lock them out until they restart too. The CA's key is never stored. The
//! certificate is valid for a year, and a start in its last month makes a new one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{ServerName, UnixTime};

use super::verify::{Roots, ServerVerifier};
use super::{OwnCertificate, TlsError, pem, provider};
use crate::config;
use crate::kubeconfig::{NewKubeconfig, ProxyEndpoint, Warning, new_kubeconfig, replace_file};

const VALID: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much the clock of a client may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A self-signed certificate and its CA.
#[derive(Debug)]
pub struct SelfSignedCertificate {
    /// The certificate to serve.
    pub certificate: OwnCertificate,
    /// The CA for clients, in PEM.
    pub ca_pem: String,
}

/// The settings for a proxy that listens on `bind`: the first host is one on which it listens, and
/// the others follow in their order. If it listens on none of them, its address joins them.
///
/// `localhost` is 127.0.0.1 and ::1, and some clients try only the first that they get. So it counts
/// only where the proxy listens on both.
pub fn reached_at(config: &config::SelfSignedConfig, bind: IpAddr) -> config::SelfSignedConfig {
    let mut config = config.clone();
    let first = match config.hosts.iter().position(|host| leads_to(host, bind)) {
        Some(place) => config.hosts.remove(place),
        None => match bind {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            address => address.to_string(),
        },
    };
    config.hosts.insert(0, first);
    config
}

/// True if a client that connects to `host` can come to a port on `bind`. A name other than
/// `localhost` is one of the network, which leads to no loopback address.
fn leads_to(host: &str, bind: IpAddr) -> bool {
    let bind = bind.to_canonical();
    match host.parse::<IpAddr>().map(|host| host.to_canonical()) {
        Ok(host) if bind.is_unspecified() => bind.is_ipv6() || host.is_ipv4(),
        Ok(host) => host == bind,
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        }
        Err(_) => !bind.is_loopback(),
    }
}

/// The certificate for `config.hosts`: the one in `config.directory` while it is good, otherwise a
/// new one, which is then kept there.
pub fn self_signed(config: &config::SelfSignedConfig) -> Result<SelfSignedCertificate, TlsError> {
    let directory = config.directory.as_deref();
    if let Some(kept) = directory.and_then(|directory| kept(directory, &config.hosts)) {
        return Ok(kept);
    }
    let made = generate(&config.hosts).map_err(|source| TlsError::Generate {
        hosts: config.hosts.clone(),
        source,
    })?;
    if let Some(directory) = directory {
        // The key comes first. If the process is killed in between, the next start finds a pair
        // that does not match and makes a new one.
        write(&directory.join("tls.key"), made.key.as_bytes(), 0o600)?;
        write(
            &directory.join("tls.crt"),
            made.certificate.as_bytes(),
            0o644,
        )?;
        write(&directory.join("ca.crt"), made.ca.as_bytes(), 0o644)?;
    }
    let [certificate, key] =
        ["tls.crt", "tls.key"].map(|name| directory.unwrap_or(Path::new("self-signed")).join(name));
    let certificate = OwnCertificate::generated(
        &certificate,
        &key,
        (made.certificate.into_bytes(), made.key.into_bytes()),
    )?;
    Ok(SelfSignedCertificate {
        certificate,
        ca_pem: made.ca,
    })
}

/// Writes `kubeconfig` into `config.directory`, for clients on `https://<first host>:port`, and
/// returns its path and warnings. None without a directory.
///
/// The caller writes it after the port is open, because a waiting client takes the file as the sign
/// that the proxy is ready. The file has no secret, only the path of the token file, so every user
/// of the pod may read it. The namespace comes from the file `namespace` in the directory of the
/// token, if there is one.
pub fn write_kubeconfig(
    config: &config::SelfSignedConfig,
    ca_pem: &str,
    port: u16,
) -> Result<Option<(PathBuf, Vec<Warning>)>, TlsError> {
    let (Some(directory), Some(host)) = (&config.directory, config.hosts.first()) else {
        return Ok(None);
    };
    let server = if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    };
    let namespace = std::fs::read_to_string(config.token_file.with_file_name("namespace")).ok();
    let namespace = namespace
        .as_deref()
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let proxy = ProxyEndpoint {
        server: &server,
        ca: Some(ca_pem.as_bytes()),
    };
    let new = NewKubeconfig {
        token_file: &config.token_file,
        namespace,
        embed: None,
    };
    let written = new_kubeconfig(proxy, new).map_err(TlsError::Kubeconfig)?;
    let path = directory.join("kubeconfig");
    write(&path, written.text.as_bytes(), 0o644)?;
    Ok(Some((path, written.warnings)))
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), TlsError> {
    replace_file(path, contents, mode).map_err(|source| TlsError::Write {
        path: path.to_owned(),
        source,
    })
}

struct GeneratedPair {
    ca: String,
    certificate: String,
    key: String,
}

fn generate(hosts: &[String]) -> Result<GeneratedPair, rcgen::Error> {
    let now = SystemTime::now();
    let params = |hosts: &[String], name: &str| {
        let mut params = CertificateParams::new(hosts)?;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + VALID).into();
        params.distinguished_name.push(DnType::CommonName, name);
        Ok::<_, rcgen::Error>(params)
    };

    let mut ca = params(&[], "kube-retry-proxy self-signed CA")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = params(hosts, "kube-retry-proxy")?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &ca)?;
    Ok(GeneratedPair {
        ca: ca.pem(),
        certificate: leaf.pem(),
        key: key.serialize_pem(),
    })
}

/// The certificate of an earlier start, if clients accept it for every host until well after this
/// start. None if anything is wrong with it, and then the caller makes a new one.
fn kept(directory: &Path, hosts: &[String]) -> Option<SelfSignedCertificate> {
    let [ca, certificate, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| directory.join(name));
    let ca_pem = String::from_utf8(pem::read(&ca).ok()?).ok()?;
    let certificate_pem = pem::read(&certificate).ok()?;

    let roots = Roots::read(ca_pem.as_bytes(), "ca.crt").ok()?;
    let verifier = ServerVerifier::new(roots, &provider());
    let chain = pem::certificates(&certificate_pem, "tls.crt").ok()?;
    let then = UnixTime::since_unix_epoch(
        (SystemTime::now() + RENEW_BEFORE)
            .duration_since(UNIX_EPOCH)
            .ok()?,
    );
    for host in hosts {
        let name = ServerName::try_from(host.as_str()).ok()?;
        verifier
            .verify_server_cert(chain.first()?, &[], &name, &[], then)
            .ok()?;
    }
    let certificate =
        OwnCertificate::generated(&certificate, &key, (certificate_pem, pem::read(&key).ok()?))
            .ok()?;
    Some(SelfSignedCertificate {
        certificate,
        ca_pem,
    })
}
