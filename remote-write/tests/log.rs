//! What the log says, how often, and what it does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use promferry_model::{Labels, PromDuration, Sample, SystemClock, TargetSink, Timestamp};
use promferry_remote_write::{ProtobufMessage, RemoteWrite, RemoteWriteConfig};
use receiver::{Receiver, Verdict};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Everything from `INFO` on that was said in this process.
struct Log(Mutex<Vec<String>>);

static LOG: LazyLock<()> = LazyLock::new(|| tracing::subscriber::set_global_default(&SAID).unwrap());
static SAID: Log = Log(Mutex::new(Vec::new()));

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        write!(self.0, " {value:?}").unwrap();
    }
}

impl Subscriber for &'static Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("promferry")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// What was said about the endpoint of this name.
fn said_of(name: &str) -> Vec<String> {
    SAID.0.lock().unwrap().iter().filter(|line| line.contains(name)).cloned().collect()
}

struct World {
    receiver: Receiver,
    remote: RemoteWrite,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(name: &str, change: impl FnOnce(&mut RemoteWriteConfig)) -> Self {
        LazyLock::force(&LOG);
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let mut config: RemoteWriteConfig = receiver.url().into();
        config.name = name.to_owned();
        config.queue_config.batch_send_deadline = PromDuration::from_millis(5);
        config.queue_config.min_backoff = PromDuration::from_millis(5);
        config.queue_config.max_backoff = PromDuration::from_millis(20);
        config.metadata_config.send = false;
        change(&mut config);
        let clock = Arc::new(SystemClock::new());
        let endpoints = vec![sender::endpoint(config)];
        let remote = sender::start(&dir.path().join("spool"), clock, Labels::default(), endpoints).await;
        Self { receiver, remote, _dir: dir }
    }

    /// So many scrapes of ten samples, each of which is decided before the next.
    async fn scrape(&self, scrapes: i64) {
        let (mut target, series) =
            sender::gauges(&self.remote, "a:1", (0..10).map(|number| number.to_string()));
        for scrape in 0..scrapes {
            let at = Timestamp::from_millis(1_700_000_000_000 + 1000 * scrape);
            target.begin(at);
            for &id in &series {
                target.sample(id, Sample::new(at, 1.0));
            }
            target.commit().await.unwrap();
            for _ in 0..1000 {
                if self.remote.status().await.unwrap()[0].ledger.pending.is_zero() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_now_and_then_does_not_fill_the_log() {
    let world = World::start("flapping", |_| {}).await;
    let mut times = 0;
    world.receiver.answer_by(move |_| {
        times += 1;
        (if times % 2 == 1 { 503 } else { 200 }, "now and then".to_owned()).into()
    });
    world.scrape(20).await;
    let said = said_of("flapping");
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("WARN") && said[0].contains("sent again"), "{said:#?}");
    assert!(said[1].contains("INFO") && said[1].contains("accepts data again"), "{said:#?}");
    world.remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_configured_message_is_not_taken_and_the_log_says_what_to_do() {
    for (name, message, advice) in [
        ("only-1-0", ProtobufMessage::V1, "protobuf_message: auto"),
        ("only-2-0", ProtobufMessage::V2, "protobuf_fallback: true"),
    ] {
        let world = World::start(name, |config| {
            config.protobuf_message = message;
            config.protobuf_fallback = false;
        })
        .await;
        world.receiver.answer(415, "unsupported media type");
        world.scrape(2).await;
        let said = said_of(name);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].contains("ERROR") && said[0].contains("415") && said[0].contains(advice),
            "{said:#?}"
        );
        world.remote.shutdown(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_brings_a_secret_into_the_log_or_a_line_of_its_own() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.aHVudGVyMg";
    let body = format!(
        "not what only we know {token}\nERROR Authorization: Custom hunter2hunter2\n{}",
        "x".repeat(60_000)
    );
    for (name, status) in
        [("talk-1", 400), ("talk-2", 503), ("talk-3", 429), ("talk-4", 404), ("talk-5", 415), ("talk-6", 302)]
    {
        let world = World::start(name, |config| {
            config.headers.insert("x-unusual".to_owned(), "what only we know".to_owned());
        })
        .await;
        let mut times = 0;
        let body = body.clone();
        world.receiver.answer_by(move |_| {
            times += 1;
            let mut verdict: Verdict = (if times < 4 { status } else { 200 }, body.clone()).into();
            verdict.headers.push(("x-amzn-requestid", "i".repeat(20_000)));
            verdict.headers.push((
                "location",
                format!("https://me:hunter2@there.example/?k=hunter2{}", "y".repeat(9000)),
            ));
            verdict
        });
        world.scrape(5).await;
        let said = said_of(name);
        assert!((1..=2).contains(&said.len()), "{said:#?}");
        for line in &said {
            assert!(
                !line.contains("hunter2")
                    && !line.contains("only we know")
                    && !line.contains("eyJ")
                    && !line.contains('\n'),
                "{line}"
            );
            assert!(line.len() < 2000, "{} bytes", line.len());
        }
        world.remote.shutdown(Duration::from_secs(20)).await;
    }
}
