//! Service account tokens and sessions that end and are renewed all the time.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use promferry_aws_stand_in::{Call, KubernetesApi, Outcome, Policy};

use crate::collector::{is_full_tier, until};
use crate::iam::{ACCOUNT, AUDIENCE, ROLE, SERVICE_ACCOUNT};
use crate::scene::{Scene, scenes};

scenes![rotate_under_the_process, sessions_of_a_minute, from_a_kubernetes_api_server];

/// As the kubelet does it: a new token, well before the old one ends, behind the same path.
async fn rotate_under_the_process() {
    let mut scene = Scene::new().await;
    // A session is renewed ten seconds after it was had, at the earliest.
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    let lifetime = Duration::from_secs(13);
    let mut written: Vec<(SystemTime, String)> = Vec::new();
    let mut write = |scene: &Scene| {
        let token = scene.token_for(lifetime);
        scene.token.write(&token);
        written.push((SystemTime::now(), token));
    };
    write(&scene);
    scene.start().await;
    let (enough, began) = (if is_full_tier() { 20 } else { 4 }, Instant::now());
    while scene.refreshes().len() < enough {
        assert!(began.elapsed() < Duration::from_secs(30 * enough as u64), "{:?}", scene.refreshes());
        tokio::time::sleep(Duration::from_secs(5)).await;
        write(&scene);
    }
    let calls = scene.refreshes();
    for call in &calls {
        assert_eq!((call.action.as_str(), call.role_arn.as_str()), ("AssumeRoleWithWebIdentity", ROLE));
        assert!(matches!(call.outcome, Outcome::Given { .. }), "{call:?}");
    }
    // Each came with a token that was read for it, not before: the one that was there when the call before came, or a
    // later one. Those that have ended are refused.
    let used = |call: &Call| {
        let token = call.web_identity_token.as_ref().unwrap().expose();
        written.iter().position(|(_, written)| written == token).unwrap()
    };
    let there = |call: &Call| written.iter().filter(|(at, _)| *at <= call.at).count() - 1;
    for (before, call) in calls.iter().zip(&calls[1..]) {
        assert!(used(call) >= there(before), "token {} after {}", used(call), there(before));
    }
    assert!(used(calls.last().unwrap()) > used(&calls[0]), "{} tokens were written", written.len());
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Sessions that live a minute (in the short form a quarter of one), over many of them.
async fn sessions_of_a_minute() {
    let (lifetime, lives) = if is_full_tier() { (60, 25) } else { (15, 3) };
    let mut scene = Scene::new().await;
    scene.sts.set_lifetime(Some(Duration::from_secs(lifetime)));
    let start = Instant::now();
    scene.start().await;
    tokio::time::sleep(Duration::from_secs(lifetime * lives)).await;
    let calls = scene.refreshes().len() as u64;
    // They are renewed between a half and two thirds of their life, or ten seconds after they were had.
    let (least, most) = ((lifetime / 2).max(10), (lifetime * 2 / 3).max(10));
    let (fewest, after) = (start.elapsed().as_secs() / most, start.elapsed().as_secs() / least + 1);
    assert!((fewest.saturating_sub(1)..=after + 1).contains(&calls), "{calls}, not {fewest} to {after}");
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Tokens as the kubelet asks for them, where the API server is built: a wrong service account's first.
async fn from_a_kubernetes_api_server() {
    const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/KUBERNETES";
    // The least that an API server gives.
    const LIFETIME: Duration = Duration::from_secs(600);
    let peers = std::env::var_os("PROMFERRY_PEERS").map(PathBuf::from);
    let peers = peers.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/peers").into());
    let Some(api) = KubernetesApi::start(&peers, ISSUER).await else {
        // Building the two takes ten minutes and more: only the full tier does.
        assert!(!is_full_tier(), "scripts/peers did not provide kube-apiserver and etcd");
        return eprintln!("SKIPPED tokens of an API server: run scripts/peers kube-apiserver etcd");
    };
    for name in ["promferry", "other"] {
        api.add_service_account("monitoring", name).await;
    }
    let mut scene = Scene::new().await;
    let issuer = api.issuer().await;
    scene.cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
    scene
        .cloud
        .set_trust(ROLE, Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE))
        .await;
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    scene.token.write(&api.token("monitoring", "other", AUDIENCE, LIFETIME).await);
    scene.start().await;
    scene.said(&["there are no valid AWS credentials", "system:serviceaccount:monitoring:other"]).await;
    for given in [1, 2] {
        let token = api.token("monitoring", "promferry", AUDIENCE, LIFETIME).await;
        scene.add_secret(&token);
        scene.token.write(&token);
        until("a session by this token", async || {
            let own =
                scene.refreshes().into_iter().filter(|call| matches!(call.outcome, Outcome::Given { .. }));
            let mut tokens = own.filter_map(|call| call.web_identity_token);
            tokens.any(|used| used.expose() == token)
        })
        .await;
        scene.until_more(given).await;
    }
    scene.assert_never_refused();
    scene.ends_whole().await;
}
