//! Signs a query to Amazon Managed Service for Prometheus with the credentials that this machine or pod has, and
//! prints where those came from and the headers, without the session token:
//!
//! `cargo run -p promferry-examples --example sign_request -- https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/labels`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::time::SystemTime;

use http::{Request, Uri};
use promferry_sigv4_auth::{Environment, SigV4Config, SigV4Layer, SigningParams, sign};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri: Uri = std::env::args().nth(1).ok_or("say which URL to sign for")?.parse()?;
    // The layer is what a client is wrapped in; here only its parts are used.
    let layer = SigV4Layer::from_config(&SigV4Config::default(), &uri, &Environment::process())?;
    let credentials = layer.credentials().get().await?;
    println!("credentials of {}, for {:?}", credentials.provider(), layer.scope());

    let mut request = Request::get(uri).body(Vec::new())?;
    let params = SigningParams { scope: layer.scope(), credentials: &credentials };
    sign(&mut request, &params, SystemTime::now())?;
    for (name, value) in request.headers() {
        if name != "x-amz-security-token" {
            println!("{name}: {}", value.to_str()?);
        }
    }
    Ok(())
}
