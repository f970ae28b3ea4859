//! Client certificates end at the proxy. A client without other credentials gets an explanation.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use kube_retry_proxy::tls;
use model_control_plane::Status;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::support::{Client, Protocol, Rig, tls_stream_as};

cases!(
    a_client_with_nothing_but_a_certificate_learns_why_it_is_refused,
    protocols,
    [
        json("application/json", "application/json"),
        protobuf(
            "application/vnd.kubernetes.protobuf, application/json",
            "application/vnd.kubernetes.protobuf"
        ),
        yaml("application/yaml", "application/yaml"),
    ]
);
async fn a_client_with_nothing_but_a_certificate_learns_why_it_is_refused(
    down: Protocol,
    accept: &str,
    encoding: &str,
) {
    let rig = Rig::new().await;
    let mut client = certified(&rig, down).await;
    let mut request = client.request(Method::GET, "/api/v1/namespaces", "");
    request.headers_mut().remove(AUTHORIZATION);
    request
        .headers_mut()
        .insert(ACCEPT, accept.parse().unwrap());
    let answer = client.ask(request).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers[CONTENT_TYPE], encoding);
    let status = Status::decode(&answer.body).unwrap();
    assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
    assert!(
        status.message.contains("client certificate") && status.message.contains("token"),
        "{}",
        status.message
    );
    assert!(
        rig.plane.journal().is_empty(),
        "the apiserver would take it for an anonymous request"
    );
    rig.stop().await;
}

cases!(a_client_with_a_certificate_and_a_token_passes, protocols);
async fn a_client_with_a_certificate_and_a_token_passes(down: Protocol) {
    let rig = Rig::new().await;
    assert_eq!(certified(&rig, down).await.get("/livez").await.body, "ok");
    rig.stop().await;
}

cases!(
    a_client_with_neither_gets_the_apiservers_own_refusal,
    protocols
);
async fn a_client_with_neither_gets_the_apiservers_own_refusal(down: Protocol) {
    let rig = Rig::new().await;
    let mut client = rig.client(down).await;
    let mut request = client.request(Method::GET, "/livez", "");
    request.headers_mut().remove(AUTHORIZATION);
    let answer = client.ask(request).await;
    assert_eq!(
        (answer.status, &answer.json()["message"]),
        (StatusCode::UNAUTHORIZED, &"Unauthorized".into())
    );
    rig.stop().await;
}

/// A client with a certificate in addition to its token.
async fn certified(rig: &Rig, protocol: Protocol) -> Client {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["jane".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots
        .add(
            CertificateDer::from_pem_slice(rig.proxy.ca_pem.as_deref().unwrap().as_bytes())
                .unwrap(),
        )
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_client_auth_cert(vec![certificate.der().clone()], key)
    .unwrap();
    config.alpn_protocols = vec![if protocol == Protocol::Http2 {
        tls::H2.to_vec()
    } else {
        tls::HTTP1.to_vec()
    }];
    let stream = tls_stream_as(rig.proxy.address, Arc::new(config))
        .await
        .unwrap();
    Client::over(stream, rig.proxy.address, rig.plane.token(), protocol).await
}
