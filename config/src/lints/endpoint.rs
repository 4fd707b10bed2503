//! URLs to which nothing can be written, though they can be read.

use http::Uri;
use promferry_remote_write::RemoteWriteConfig;
use promferry_sigv4_auth::Scope;

use crate::Endpoint;

/// The path of a workspace of Amazon Managed Service for Prometheus ends with it.
const AMP_PATH: &str = "/api/v1/remote_write";

/// Where Prometheus itself, Mimir and Cortex, and Thanos take remote write.
const PATHS_ELSEWHERE: [&str; 3] = ["/api/v1/write", "/api/v1/push", "/api/v1/receive"];

/// What is likely to be wrong with the URL that is written to.
pub(crate) fn url_faults(write: &RemoteWriteConfig) -> Vec<String> {
    let Ok(url) = write.url.parse::<Uri>() else { return Vec::new() };
    let path = url.path();
    if !write.is_amp() {
        let trimmed = path.trim_end_matches('/');
        let ends_with_slash =
            trimmed.len() < path.len() && PATHS_ELSEWHERE.iter().any(|known| trimmed.ends_with(known));
        let message =
            "the path ends with a slash, under which servers do not take remote write: take it away";
        return ends_with_slash.then(|| message.to_owned()).into_iter().collect();
    }
    let mut faults = Vec::new();
    if path.trim_end_matches('/').ends_with(AMP_PATH) {
        if path.ends_with('/') {
            faults.push(
                "AMP answers 403 (Missing Authentication Token) to a path that ends with a slash: take it away"
                    .to_owned(),
            );
        }
    } else {
        faults.push(
            "AMP answers 403 (Missing Authentication Token) to another path than /workspaces/ID/api/v1/remote_write"
                .to_owned(),
        );
    }
    if url.scheme_str() == Some("http") {
        faults.push("AMP is reached by https alone: write https:// instead of http://".to_owned());
    }
    let region = url.host().unwrap_or_default().split('.').find(|label| is_placeholder(label));
    let workspace = path.split_once("/workspaces/").and_then(|(_, rest)| rest.split('/').next());
    for (what, text) in [("region", region), ("workspace", workspace.filter(|id| is_placeholder(id)))] {
        if let Some(text) = text {
            faults.push(format!("{text:?} looks like a placeholder: write the {what}'s own name there"));
        }
    }
    faults
}

/// Names of regions and workspaces are in lower case; examples say `REGION`, `ws-xxxxxxxx` or `your-workspace`.
fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 5] = ["region", "workspace_id", "workspace-id", "your", "xxx"];
    let is_shouted = text.bytes().any(|b| b.is_ascii_uppercase());
    is_shouted || text.contains(['{', '}', '$']) || WORDS.iter().any(|word| text.contains(word))
}

/// What is likely to be wrong between an endpoint's URL and its signing.
pub(crate) fn signing_fault(endpoint: &Endpoint) -> Option<String> {
    let configured = endpoint.sigv4.as_ref()?.region.as_deref().filter(|region| !region.is_empty())?;
    let url = endpoint.write.url.parse::<Uri>().ok()?;
    let of_host = Scope::of_host(url.host()?)?;
    (of_host.region != configured).then(|| {
        format!(
            "signs for {configured}, and the URL is of {}: AWS refuses a signature for another region (403)",
            of_host.region
        )
    })
}
