//! The program as a pod runs it that writes to Amazon Managed Prometheus: credentials from STS by a service account's
//! token, roles assumed, requests signed, in a cloud of our own that refuses as AWS does. Whatever fails there, and
//! however long, nothing that was scraped is lost, what is wrong is said, and no secret is shown.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod chain;
mod clock;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod denied;
mod hub;
mod iam;
#[path = "../fixture/outcome.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod outcome;
#[path = "../fixture/pace.rs"]
mod pace;
mod pinned;
mod restart;
mod scene;
#[path = "../fixture/secrets.rs"]
mod secrets;
mod sessions;
mod shown;
mod sts_away;
mod tokens;
mod whoami;

/// Whatever AWS does, everything that was scraped arrives, in order, once it may. The longest first; and by its name this
/// is the first of all tests here, so that the others run beside it.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_scraped_arrives() {
    let all = [
        sts_away::scenes(),
        tokens::scenes(),
        denied::scenes(),
        clock::scenes(),
        chain::scenes(),
        restart::scenes(),
        sessions::scenes(),
    ];
    scene::play(all.into_iter().flatten().collect()).await;
}
