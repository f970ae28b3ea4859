//! Client certificates that pass: the proxy verifies them and tells the apiserver who asks, over
//! connections that show the certificate of a front proxy. No other request goes over those.

mod apiserver;
mod changes;
mod connections;
mod pki;
mod verdicts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, Method, Request};
use http_body_util::Full;
use kube_retry_proxy::app::{self, App, ConfigSource};
use kube_retry_proxy::config::{CaSource, Config};
use kube_retry_proxy::tls;
use model_control_plane::Status;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::support::{Answer, Client, Protocol, sample, tls_stream_as};
use apiserver::Apiserver;
use pki::{Ca, Credentials};

/// A proxy in front of an apiserver that believes it. The files of both sides are in a folder, and
/// are read again every few milliseconds.
struct Front {
    clients: Ca,
    /// Issues the certificates of front proxies.
    proxies: Ca,
    apiserver: Apiserver,
    proxy: App,
    directory: TempDir,
}

impl Front {
    async fn start(upstream: Protocol) -> Self {
        Self::with(upstream, |_| {}).await
    }

    async fn with(upstream: Protocol, edit: impl FnOnce(&mut Config)) -> Self {
        let (clients, proxies) = (Ca::new("clients"), Ca::new("front proxies"));
        let apiserver = Apiserver::start(&proxies, upstream).await;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let shown = proxies.client("front-proxy", &[]);
        std::fs::write(path("clients.crt"), clients.pem()).unwrap();
        std::fs::write(path("front.crt"), shown.certificate_pem()).unwrap();
        std::fs::write(path("front.key"), shown.key_pem()).unwrap();

        let mut config = Config::default();
        config.upstream.servers = vec![apiserver.url().parse().unwrap()];
        config.upstream.ca = Some(CaSource::Pem(apiserver.ca_pem.clone().into_bytes()));
        config.upstream.front_proxy_cert_file = Some(path("front.crt"));
        config.upstream.front_proxy_key_file = Some(path("front.key"));
        config.serving.client_ca_file = Some(path("clients.crt"));
        config.serving.bind_address = [127, 0, 0, 1].into();
        config.serving.secure_port = 0;
        config.admin.bind_address = ([127, 0, 0, 1], 0).into();
        config.drain.timeout = Duration::from_millis(200);
        edit(&mut config);
        let again = config.clone();
        let mut source = ConfigSource::new(move || Ok(again.clone()));
        source.every = Duration::from_millis(5);
        let proxy = app::start(config, Some(source)).await.unwrap();
        Self {
            clients,
            proxies,
            apiserver,
            proxy,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The TLS settings of a client with this certificate, or none.
    fn tls(&self, credentials: Option<&Credentials>, protocol: Protocol) -> Arc<ClientConfig> {
        let ca = self.proxy.ca_pem.as_deref().unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match credentials {
            Some(credentials) => config
                .with_client_auth_cert(credentials.chain.clone(), credentials.key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => tls::HTTP1.to_vec(),
            Protocol::Http2 => tls::H2.to_vec(),
        }];
        Arc::new(config)
    }

    async fn client(&self, credentials: Option<&Credentials>, protocol: Protocol) -> Client {
        let tls = self.tls(credentials, protocol);
        let stream = tls_stream_as(self.proxy.address, tls).await.unwrap();
        Client::over(stream, self.proxy.address, "unused", protocol).await
    }

    /// What a client with this certificate gets for `path`, with these header lines.
    async fn get(
        &self,
        credentials: Option<&Credentials>,
        path: &str,
        lines: &[(&str, &str)],
    ) -> Answer {
        let mut client = self.client(credentials, Protocol::Http2).await;
        client.ask(request(&client, Method::GET, path, lines)).await
    }

    /// How many requests with a certificate ended so.
    fn used(&self, result: &str) -> f64 {
        let series = format!("kube_retry_proxy_client_certificates_total{{result=\"{result}\"}}");
        sample(&self.proxy, &series)
    }

    async fn stop(self) {
        self.proxy.stop().await;
    }
}

/// A request with these header lines and without a token.
fn request(
    client: &Client,
    method: Method,
    path: &str,
    lines: &[(&str, &str)],
) -> Request<Full<bytes::Bytes>> {
    let mut request = client.request(method, path, "{}");
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    request
}

/// The message of the proxy's own answer.
fn message(answer: &Answer) -> String {
    Status::decode(&answer.body).unwrap().message
}

/// The identity as the apiserver reads it.
fn lines(of: &[(&str, &str)], credentials: &Credentials) -> Vec<(String, String)> {
    let id = tls::sha256(&credentials.chain[0]);
    let id = id.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let id = format!("X509SHA256={}", id.collect::<String>());
    let extra = "x-remote-extra-authentication.kubernetes.io%2fcredential-id";
    let all = of.iter().copied().chain([(extra, &*id)]);
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
