//! What goes wrong in the demo, and what comes of it. A scene ends when what it shows has happened, and at a limit.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::exporters::pages::NOTE_BYTES;
use super::receiver::MAX_LABEL_VALUE;
use super::screen::{Screen, Tone};
use super::stage::Stage;
use crate::counts::{Grouped, plural};

/// Before, between and after the scenes.
const CALM: Duration = Duration::from_secs(5);
/// How long the receiver is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// So many scrapes show the label that is too long.
const LONG_NOTES: u64 = 3;
/// How long STS takes over new credentials.
const SLOW_STS: Duration = Duration::from_secs(6);
/// What a scene waits for has happened by then, or is said not to have.
const LIMIT: Duration = Duration::from_secs(45);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Plays all three, told on the screen.
pub(super) async fn play(stage: &Stage, screen: &Screen) {
    sleep(CALM).await;
    outage(stage, screen).await;
    sleep(CALM).await;
    label_value(stage, screen).await;
    sleep(CALM).await;
    expiry(stage, screen).await;
    sleep(CALM).await;
}

/// The receiver answers 503, and is back.
async fn outage(stage: &Stage, screen: &Screen) {
    let seconds = OUTAGE.as_secs();
    screen.say(Tone::Title, &format!("scene 1 of 3: the receiver answers 503 for {seconds} s"));
    let before = stage.receiver.seen();
    stage.receiver.set_away(true);
    sleep(OUTAGE).await;
    let away = stage.receiver.seen();
    let standing = stage.standing().await;
    stage.receiver.set_away(false);
    let back = Instant::now();
    screen.say(
        Tone::Plain,
        &format!(
            "  … {} answered 503; {} samples ({} KiB) wait on disk, and scraping goes on",
            plural(away.turned_away - before.turned_away, "request", "requests"),
            Grouped(standing.waiting.values()),
            standing.waiting_bytes.div_ceil(1024),
        ),
    );
    let drained = settled(stage, standing.scraped.values()).await;
    let after = stage.receiver.seen();
    let in_order = after.out_of_order == before.out_of_order && after.repeated == before.repeated;
    let (tone, text) = match (drained, in_order) {
        (true, true) => (
            Tone::Good,
            format!(
                "  … it is back: all of that was delivered {:.1} s later, each series in order, nothing twice",
                back.elapsed().as_secs_f64()
            ),
        ),
        (true, false) => (Tone::Bad, "  … it was delivered, but NOT in order".to_owned()),
        (false, _) => (Tone::Bad, format!("  … it still waits {} s later", LIMIT.as_secs())),
    };
    screen.say(tone, &text);
}

/// An application shows a label value that AMP does not take.
async fn label_value(stage: &Stage, screen: &Screen) {
    screen.say(
        Tone::Title,
        &format!(
            "scene 2 of 3: checkout shows a label value of {} characters; AMP takes {}",
            Grouped(NOTE_BYTES as u64),
            Grouped(MAX_LABEL_VALUE as u64)
        ),
    );
    let before = (stage.receiver.seen().refused, stage.standing().await.refused.values());
    stage.exporters.show_long_note(LONG_NOTES);
    let is_over = until(async || stage.exporters.long_note_is_over()).await;
    let scraped = stage.standing().await.scraped.values();
    let is_settled = settled(stage, scraped).await;
    let seen = stage.receiver.seen();
    let (refused, lost) = (seen.refused - before.0, stage.standing().await.refused.values() - before.1);
    if is_over && is_settled && refused > 0 && lost >= refused {
        let unsent = lost - refused;
        screen.say(
            Tone::Good,
            &format!(
                "  … {} refused, by name; {unsent} more of its series held back unsent; the other {} of the request were taken",
                plural(refused, "sample", "samples"),
                Grouped(seen.taken_beside_refused),
            ),
        );
    } else {
        screen.say(Tone::Bad, &format!("  … {refused} refused, {lost} lost: not what was to be shown"));
    }
}

/// The session ends before its time, and STS is slow.
async fn expiry(stage: &Stage, screen: &Screen) {
    screen.say(
        Tone::Title,
        &format!(
            "scene 3 of 3: the credentials expire, and STS takes {} s to give others",
            SLOW_STS.as_secs()
        ),
    );
    let (before, refreshes) = (stage.receiver.seen(), stage.refreshes());
    let lost = stage.standing().await.refused.values();
    stage.sts.set_delay(SLOW_STS);
    stage.sessions.end();
    let refused = until(async || stage.receiver.seen().expired > before.expired).await;
    let since = Instant::now();
    if refused {
        screen.say(
            Tone::Plain,
            "  … a request is refused with 403 (expired): new ones are asked for, and the data waits",
        );
    }
    let waiting = Cell::new(0);
    let refreshed = refused
        && until(async || {
            waiting.set(stage.standing().await.waiting.values().max(waiting.get()));
            stage.refreshes() > refreshes
        })
        .await;
    stage.sts.set_delay(Duration::ZERO);
    let scraped = stage.standing().await.scraped.values();
    let is_settled = refreshed && settled(stage, scraped).await;
    let lost = stage.standing().await.refused.values() - lost;
    if is_settled && lost == 0 {
        let expired = stage.receiver.seen().expired - before.expired;
        screen.say(
            Tone::Good,
            &format!(
                "  … {} waited for them; {} signed anew and sent again {:.1} s later: nothing lost",
                plural(waiting.get(), "sample", "samples"),
                if expired == 1 { "the request was".to_owned() } else { format!("{expired} requests were") },
                since.elapsed().as_secs_f64(),
            ),
        );
    } else {
        screen.say(Tone::Bad, &format!("  … new credentials: {refreshed}; {lost} samples lost"));
    }
}

/// Waits until as much is delivered or refused as was scraped at some moment.
async fn settled(stage: &Stage, scraped: u64) -> bool {
    until(async || stage.standing().await.settled() >= scraped).await
}

async fn until(met: impl AsyncFn() -> bool) -> bool {
    let start = Instant::now();
    while !met().await {
        if start.elapsed() > LIMIT {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}
