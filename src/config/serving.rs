//! The sections `serving` and `admin`: the ports of the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::declare::settings;
use super::kind::{
    Subsection, bytes, duration, host, list, list_or_empty, optional, path, port, text, whole,
};
use super::{ConnectionCount, HOUR, MILLISECOND, Requests, SERVICE_ACCOUNT_TOKEN, Wait};

settings! {
    /// The port that clients connect to. It is always TLS.
    pub struct ServingConfig {
        /// The IP address to listen on. `::` means IPv6, and on most systems IPv4 too.
        bind_address: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            text("an IP address without a port, like 0.0.0.0 or ::", "^[0-9A-Fa-f.:]+$"),
            flag "bind-address" "IP";
        /// The port to listen on. 0 takes any free port.
        secure_port: u16 = 8443, port(), flag "secure-port" "N";
        /// The file with the PEM certificate chain, leaf first. If not set, the proxy signs its own
        /// certificate (see `selfSigned`).
        ///
        /// Set it together with `tlsPrivateKeyFile`. The proxy reads replaced files without a
        /// restart.
        tls_cert_file: Option<PathBuf> = None, optional(path()), flag "tls-cert-file" "FILE";
        /// The file with the PEM private key of the certificate in `tlsCertFile`.
        tls_private_key_file: Option<PathBuf> = None, optional(path()),
            flag "tls-private-key-file" "FILE";
        /// The file with the PEM certificates of the CAs that issue client certificates: the file
        /// of kube-apiserver's `--client-ca-file`. A client with a certificate is then who the
        /// certificate says, as at kube-apiserver.
        ///
        /// Set it together with `upstream.frontProxyCertFile` and `upstream.frontProxyKeyFile`. If
        /// not set, a client certificate cannot pass, and a request that has nothing else gets a
        /// 401. The proxy reads a replaced file without a restart. Read SECURITY.md first.
        client_ca_file: Option<PathBuf> = None, optional(path()), flag "client-ca-file" "FILE";
        /// The groups that no client certificate may have. The proxy answers 403 to a certificate
        /// whose organizations (`O`) name one of them.
        ///
        /// kubeadm's `admin.conf` before 1.29 and its `super-admin.conf` have `system:masters`, for
        /// which kube-apiserver checks no permissions. `[]` lets every group pass.
        client_denied_groups: Vec<String> = vec!["system:masters".into()],
            list_or_empty(text("the name of a group", ""));
        /// How long the head of a request may take to arrive, and how long a connection stays open
        /// without a request.
        ///
        /// Keep it above the 90 s after which Go clients close an idle connection. Otherwise a
        /// client may send a request just as the proxy closes the connection.
        head_timeout: Wait<1> = Wait::secs(120), duration(MILLISECOND, HOUR);
        /// The largest head of a request: its request line and its headers, as HTTP/1.1 writes
        /// them.
        ///
        /// The proxy answers 431 to a larger one. It answers 414 to a URL of more than 65534 bytes,
        /// whatever the limit is. 1Mi is the limit of kube-apiserver itself.
        max_head: u32 = 64 << 10, bytes(4 << 10, 1 << 20);
        /// How many client connections may be open.
        ///
        /// At the limit, a new connection takes the place of the one that has been without a
        /// request for longest. If all of them have requests, new ones wait in the queue of the
        /// kernel.
        max_connections: ConnectionCount = ConnectionCount::new(10_000), whole();
        /// How many client connections may be open from one address.
        ///
        /// At the limit, a new connection takes the place of the one from the same address that has
        /// been without a request for longest. If all of them have requests, the proxy refuses the
        /// new one. All clients behind a load balancer or a sidecar have the same address. If not
        /// set, it is four fifths of `maxConnections`.
        max_connections_per_address: Option<ConnectionCount> = None, optional(whole());
        /// How many requests may run at the same time, watches included.
        ///
        /// One address may have four fifths of them. Above the limit the proxy answers 429, as
        /// kube-apiserver does.
        max_requests: Requests = Requests::new(20_000), whole();
        /// The certificate that the proxy signs itself when `tlsCertFile` is not set. It is valid
        /// for a year, and a start in its last month renews it.
        self_signed: SelfSignedConfig = SelfSignedConfig::default(), Subsection;
    }
}

settings! {
    /// The CA and certificate that the proxy makes at start when it has no certificate file.
    #[derive(Eq)]
    pub struct SelfSignedConfig {
        /// The names and addresses that the certificate is valid for. Clients must connect to one of
        /// them. The first one on which the proxy listens is the server in the kubeconfig.
        ///
        /// If it listens on none of them, its address joins them. `localhost` stands for 127.0.0.1
        /// and ::1, so it counts only if `bindAddress` is `::`.
        hosts: Vec<String> = vec![
            "localhost".into(),
            Ipv4Addr::LOCALHOST.to_string(),
            Ipv6Addr::LOCALHOST.to_string(),
        ], list(host()), flag "self-signed-hosts" "HOST,…";
        /// The directory where the proxy writes `ca.crt` and a kubeconfig for clients, and keeps
        /// the certificate over a restart.
        ///
        /// It may be an emptyDir that the proxy shares with the controller. If not set, the proxy
        /// writes nothing, and clients cannot verify it.
        directory: Option<PathBuf> = None, optional(path()), flag "self-signed-dir" "DIR";
        /// The token file that the written kubeconfig names. The proxy never sends its token.
        ///
        /// The kubeconfig never has the token itself, because every user of the pod may read it and
        /// the kubelet renews the token. For clients that ignore `tokenFile`, there is the command
        /// `kubeconfig --embed-token`.
        token_file: PathBuf = SERVICE_ACCOUNT_TOKEN.into(), path(), flag "token-file" "FILE";
    }
}

settings! {
    /// The port for probes, metrics and debugging. It is plain HTTP, read-only, and asks for no
    /// credentials.
    #[derive(Eq)]
    pub struct AdminConfig {
        /// The IP address and port to listen on. Port 0 takes any free port.
        ///
        /// `[::]:8080` listens on IPv6. `127.0.0.1:8080` hides the port from everything outside of
        /// the pod, so that probes and Prometheus fail.
        bind_address: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
            text("an address and a port, like 0.0.0.0:8080 or [::]:8080", ":[0-9]+$"),
            flag "admin-bind-address" "IP:PORT";
    }
}
