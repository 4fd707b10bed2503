//! What is on the way to STS and to an endpoint.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use promferry_aws_stand_in::Fault;
use promferry_bench::port::HeldPort;

use crate::whoami::pod::Pod;

#[tokio::test(flavor = "multi_thread")]
async fn sts_refuses_connections() {
    let mut pod = Pod::new().await;
    let closed = HeldPort::any().unwrap();
    assert_eq!(pod.reach(&format!("http://{}", closed.address())).await, "refused");
    pod.set("AWS_ENDPOINT_URL_STS", format!("http://{}", closed.address()));
    pod.assert_says("sts-refuses-connections", 1, Some("route")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_such_name() {
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach("http://aps-workspaces.eu-west-1.invalid").await, "no_such_name");
    pod.set("AWS_ENDPOINT_URL_STS", "http://sts.eu-west-1.invalid");
    pod.assert_says("no-such-name", 1, Some("route")).await;
}

/// An address that answers no connection, as one behind a closed security group; ours is a private one.
#[tokio::test(flavor = "multi_thread")]
async fn an_interface_endpoint_that_is_closed() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let held: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
            .collect();
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach(&format!("http://{address}")).await, "timed_out_private");
    pod.set("AWS_ENDPOINT_URL_STS", format!("http://{address}"));
    pod.assert_says("an-interface-endpoint-that-is-closed", 1, Some("route")).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_no() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let mut pod = Pod::new().await;
    pod.unset("AWS_ENDPOINT_URL_STS");
    pod.set("HTTPS_PROXY", format!("http://{proxy}"));
    pod.assert_says("a-proxy-that-says-no", 1, Some("route")).await;
}

/// Something on the way shows its own certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach(&format!("https://localhost:{port}")).await, "tls");
    pod.set("AWS_ENDPOINT_URL_STS", format!("https://localhost:{port}"));
    pod.assert_says("a-certificate-of-somebody-else", 1, Some("route")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_not_reached() {
    let mut pod = Pod::new().await;
    pod.workspaces.set_fault(Fault::Down);
    pod.assert_says("the-endpoint-refuses-connections", 1, Some("route")).await;
    pod.workspaces.set_fault(Fault::None);
    let closed = HeldPort::any().unwrap();
    pod.more = format!("  proxy_url: http://{}\n", closed.address());
    pod.assert_says("the-endpoints-proxy-is-not-there", 1, Some("route")).await;
}
