//! What signing costs beside one SHA-256 of the body.

use std::time::SystemTime;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use promferry_sigv4_auth::{Credentials, PayloadHash, Scope, SigningParams, sign};

/// A full remote-write request.
const BODY: usize = 500_000;

fn main() {
    divan::main();
}

/// The hash alone: what no signer can do without.
#[divan::bench]
fn sha256(bencher: Bencher<'_, '_>) {
    let body = body();
    bencher.counter(BytesCount::new(BODY)).bench_local(|| PayloadHash::of(black_box(&body)));
}

/// The first attempt: the body is hashed and the request signed.
#[divan::bench]
fn first_attempt(bencher: Bencher<'_, '_>) {
    let mut request = request();
    bencher.counter(BytesCount::new(BODY)).bench_local(|| signed(black_box(&mut request)));
}

/// A later attempt: the hash is at hand.
#[divan::bench]
fn later_attempt(bencher: Bencher<'_, '_>) {
    let mut request = request();
    let hash = PayloadHash::of(request.body());
    request.extensions_mut().insert(hash);
    bencher.bench_local(|| signed(black_box(&mut request)));
}

fn signed(request: &mut http::Request<Vec<u8>>) {
    let scope = Scope { region: String::from("eu-west-1"), service: String::from("aps") };
    let credentials = Credentials::new("ASIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG", Some(&"t".repeat(1_000)));
    let params = SigningParams { scope: &scope, credentials: &credentials };
    if let Err(error) = sign(request, &params, SystemTime::now()) {
        panic!("{error}");
    }
}

fn request() -> http::Request<Vec<u8>> {
    let mut request = http::Request::new(body());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(
        "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-12345678-1234-1234-1234-123456789012/api/v1/remote_write",
    );
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ] {
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    request
}

fn body() -> Vec<u8> {
    (0..BODY).map(|index| ((index * 31) >> 3) as u8).collect()
}
