//! Certificates, and TLS on both sides: of scripted upstreams as servers, of scripted clients as
//! clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Protocol;

pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// A certificate authority, and one certificate of it for the loopback.
pub struct Pki {
    pub ca_pem: String,
    /// For who serves with the certificate from files.
    pub certificate_pem: String,
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Pki {
    pub fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let signed = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        Self {
            ca_pem: authority.pem(),
            certificate_pem: signed.pem(),
            key_pem: key.serialize_pem(),
            certificate: signed.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub fn acceptor(&self, protocol: Protocol) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        // As an apiserver: whoever insists on HTTP/1.1, for a probe or an upgrade, gets it.
        config.alpn_protocols = vec![protocol.alpn()];
        if protocol == Protocol::Http2 {
            config.alpn_protocols.push(Protocol::Http1.alpn());
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How clients reach one proxy.
#[derive(Clone)]
pub struct Dialer {
    pub address: SocketAddr,
    source: IpAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Dialer {
    /// Trusts the certificate authority in the file `ca`.
    pub fn new(address: SocketAddr, ca: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(ca).unwrap())
            .unwrap();
        let connector = |protocol: Protocol| {
            let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap();
            let mut config = builder
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.alpn()];
            TlsConnector::from(Arc::new(config))
        };
        Self {
            address,
            source: Ipv4Addr::LOCALHOST.into(),
            http1: connector(Protocol::Http1),
            http2: connector(Protocol::Http2),
        }
    }

    /// The same from another address of the loopback: the proxy may well give each address a share.
    pub fn from(&self, last: u8) -> Self {
        Self {
            source: Ipv4Addr::new(127, 0, 0, last).into(),
            ..self.clone()
        }
    }

    /// A connection below TLS. With `small`, the kernel takes little for who does not read.
    pub async fn tcp(&self, small: bool) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if small {
            socket.set_recv_buffer_size(8 << 10)?;
        }
        socket.bind(SocketAddr::new(self.source, 0))?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    pub async fn dial(&self, protocol: Protocol, small: bool) -> std::io::Result<ClientStream> {
        let tcp = self.tcp(small).await?;
        let connector = if protocol == Protocol::Http1 {
            &self.http1
        } else {
            &self.http2
        };
        connector
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
    }
}
