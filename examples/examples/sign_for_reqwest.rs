//! Signs a query and sends it with reqwest, for those who have that client and no tower:
//!
//! `cargo run -p promferry-examples --example sign_for_reqwest -- http://127.0.0.1:9009/api/v1/labels`
//!
//! reqwest is built without TLS here; with its feature `rustls` the same program talks to Amazon Managed Service for
//! Prometheus. Where the URL's host does not tell the region, `AWS_REGION` does.

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::time::SystemTime;

use http::{Request, Uri};
use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialChain, Environment, Scope, ScopeKeys, SigV4Config, SigningParams,
    sign,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri: Uri = std::env::args().nth(1).ok_or("say what to ask")?.parse()?;
    let environment = Environment::process();
    let host = uri.host().unwrap_or_default();
    let scope = Scope::resolve(host, None, Some("aps"), &environment, ScopeKeys::PROMETHEUS)?;
    let chain = CredentialChain::new(&SigV4Config::default().credentials(), environment, &scope.region)?;
    // Made once and kept: it refreshes them before they expire.
    let credentials = CachedCredentials::new(chain, Clock::system());

    // What reqwest would add to a request of its own after signing does not matter: only what is there is signed.
    let mut request = Request::get(uri).body(Vec::new())?;
    let current = credentials.get().await?;
    sign(&mut request, &SigningParams { scope: &scope, credentials: &current }, SystemTime::now())?;
    let response = reqwest::Client::new().execute(request.try_into()?).await?;
    println!("{} {}", response.status(), response.text().await?);
    Ok(())
}
