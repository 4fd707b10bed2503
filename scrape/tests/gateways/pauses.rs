//! Gateways that refuse for a while, and applications behind them that do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Gateway, Seen, by_path, ledger, page, refused, scraper_of, ups};

#[tokio::test(start_paused = true)]
async fn a_pause_is_for_that_gateway_alone() {
    let started = Instant::now();
    let since = move |seen: &Seen| seen.at - started;
    let busy = Gateway::start(Duration::ZERO, move |seen| {
        if (30_000..30_500).contains(&since(seen).as_millis()) { refused(429, "7") } else { page() }
    })
    .await;
    let other = Gateway::start(Duration::ZERO, |_| page()).await;
    let keys = by_path(json!({"scrape_interval": "10s", "scrape_timeout": "5s"}));
    let (scraper, sink) = scraper_of(keys, vec![busy.group(0..100), other.group(100..200)]);
    tokio::time::sleep(Duration::from_secs(80)).await;
    let gateways = scraper.gateways();
    scraper.shutdown().await;
    let times = |gateway: &Gateway| -> Vec<u128> {
        gateway.seen().iter().map(|seen| since(seen).as_millis()).collect()
    };
    let first_refused = *times(&busy).iter().find(|at| **at >= 30_000).unwrap();
    let during = |at: &&u128| (first_refused + 500..first_refused + 7000).contains(*at);
    assert_eq!(times(&busy).iter().filter(during).count(), 0, "{:?}", times(&busy));
    assert!(times(&other).iter().filter(during).count() > 50, "the other goes on");
    let throttled: BTreeMap<_, _> =
        gateways.iter().map(|at| (at.address.to_string(), at.throttled)).collect();
    assert!(throttled[&busy.address.to_string()] > 0);
    assert_eq!(throttled[&other.address.to_string()], 0);
    // Those that were refused could not be asked again within their timeout; nobody else missed anything for good.
    let down: u64 = ups(&sink).values().map(|(_, down)| down).sum();
    let refused = times(&busy).iter().filter(|at| (30_000..30_500).contains(*at)).count();
    assert_eq!(down as usize, refused);
    assert!(!ledger(&scraper).missed.contains_key("gateway"));
}

#[tokio::test(start_paused = true)]
async fn retry_after_within_the_timeout_leaves_no_gap() {
    for targets in [1, 60] {
        let started = Instant::now();
        // For a second each minute it takes nobody.
        let gateway = Gateway::start(Duration::ZERO, move |seen| {
            let since = seen.at - started;
            if since.as_millis() % 60_000 / 1000 == 30 { refused(503, "2") } else { page() }
        })
        .await;
        // One that has a phase of its own has to come at that time.
        let interval = if targets == 1 { "1s" } else { "10s" };
        let keys = by_path(json!({"scrape_interval": interval, "scrape_timeout": interval}));
        let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..targets)]);
        tokio::time::sleep(Duration::from_secs(300)).await;
        scraper.shutdown().await;
        let requests = gateway.seen().len() as u64;
        let ups = ups(&sink);
        let (up, down) = ups.values().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert!(down == 0 || targets == 1, "{ups:?}");
        assert!(requests > up, "{targets}: some were asked again");
        assert!(targets == 1 || ups.values().all(|(up, _)| *up >= 30), "{ups:?}");
        assert!(ledger(&scraper).missed.keys().all(|reason| *reason == "shutdown"), "{:?}", ledger(&scraper));
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_always_refuses_holds_up_itself_alone() {
    let gateway = Gateway::start(Duration::from_millis(10), |seen| match seen.path.as_str() {
        "/app-1/metrics" | "/app-2/metrics" => refused(503, "3600"),
        "/app-3/metrics" => refused(503, "soon"),
        _ => page(),
    })
    .await;
    let keys = by_path(json!({"scrape_interval": "10s", "scrape_timeout": "5s"}));
    let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..50)]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    scraper.shutdown().await;
    let ups = ups(&sink);
    for (app, (up, down)) in &ups {
        match app.as_str() {
            "app-1" | "app-2" | "app-3" => assert!(*up == 0 && *down > 50, "{app}: {down}"),
            _ => assert!(*up >= 57 && *down == 0, "{app}: {up} up, {down} down"),
        }
    }
}

/// What waits alone keeps no place from others.
#[tokio::test(start_paused = true)]
async fn many_applications_that_refuse_for_a_moment_leave_the_others_their_places() {
    let gateway =
        Gateway::start(
            Duration::from_millis(10),
            |seen| {
                if app(seen) < 200 { refused(503, "4") } else { page() }
            },
        )
        .await;
    let keys = by_path(json!({"scrape_interval": "10s", "scrape_timeout": "9s"}));
    let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..250)]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    scraper.shutdown().await;
    for (app, (up, down)) in &ups(&sink) {
        let number: u32 = app.trim_start_matches("app-").parse().unwrap();
        match number {
            200.. => assert!(*up >= 54 && *down == 0, "{app}: {up} up, {down} down"),
            _ => assert!(*up == 0 && *down >= 50, "{app}: {down}"),
        }
    }
}

/// Refused with 503 are those applications that a gateway does not reach; it serves the others.
#[tokio::test(start_paused = true)]
async fn applications_that_are_down_hold_up_nobody() {
    for retry_after in ["3", "3600"] {
        let gateway = Gateway::start(Duration::from_millis(10), move |seen| {
            if app(seen) < 60 { refused(503, retry_after) } else { page() }
        })
        .await;
        let keys = json!({
            "scrape_interval": "10s", "scrape_timeout": "5s", "gateway": {"max_in_flight": 2},
        });
        let (scraper, sink) = scraper_of(by_path(keys), vec![gateway.group(0..100)]);
        tokio::time::sleep(Duration::from_secs(120)).await;
        scraper.shutdown().await;
        // The simulated clock goes on while the machine is busy: a few moments may be missed.
        for (app, (up, down)) in &ups(&sink) {
            let number: u32 = app.trim_start_matches("app-").parse().unwrap();
            match number {
                60.. => assert!(*up >= 9 && *down == 0, "{app}: {up} up, {down} down"),
                _ => assert!(*up == 0 && *down >= 8, "{app}: {up} up, {down} down"),
            }
        }
    }
}

/// Whoever is served while all wait for one shows that nobody else has to.
#[tokio::test(start_paused = true)]
async fn a_pause_for_503_ends_when_somebody_is_served() {
    for (status, is_over) in [(503, true), (429, false)] {
        let is_first = AtomicBool::new(true);
        let gateway = Gateway::start(Duration::from_millis(500), move |_| {
            if is_first.swap(false, Ordering::Relaxed) { refused(status, "10") } else { page() }
        })
        .await;
        let keys = by_path(json!({"scrape_interval": "10s", "scrape_timeout": "5s"}));
        let (scraper, _) = scraper_of(keys, vec![gateway.group(0..300)]);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(scraper.gateways()[0].throttled, 1);
        scraper.shutdown().await;
        let requests = gateway.seen().len();
        assert!(if is_over { requests > 250 } else { requests <= 32 }, "{status}: {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_repeated_holds_no_place_and_keeps_the_pace() {
    let started = Instant::now();
    let gateway = Gateway::start(Duration::from_millis(200), move |seen| {
        if (30_000..30_500).contains(&(seen.at - started).as_millis()) { refused(429, "3") } else { page() }
    })
    .await;
    let keys = json!({
        "scrape_interval": "10s", "scrape_timeout": "9s", "gateway": {"requests_per_second": 100},
    });
    let (scraper, sink) = scraper_of(by_path(keys), vec![gateway.group(0..300)]);
    tokio::time::sleep_until(started + Duration::from_millis(32_500)).await;
    let during = scraper.gateways().remove(0);
    assert!(during.throttled > 0 && during.waiting > 0 && during.in_flight == 0, "{during:?}");
    tokio::time::sleep_until(started + Duration::from_secs(60)).await;
    scraper.shutdown().await;
    assert!(ups(&sink).values().all(|(up, down)| *up >= 4 && *down == 0), "{:?}", ups(&sink));
    let mut times: Vec<_> = gateway.seen().iter().map(|seen| seen.at).collect();
    times.sort();
    // Paused time may go on while a request is on its way: of one the moment is seen late, of twenty hardly.
    let twenty = times.windows(20).map(|of| of[19] - of[0]).min().unwrap();
    assert!(twenty >= Duration::from_millis(170), "{twenty:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repetition_that_would_come_too_late_leaves_the_refusal() {
    let gateway = Gateway::start(Duration::ZERO, |_| refused(429, "1")).await;
    // Room for the next is after five seconds.
    let keys = json!({
        "scrape_interval": "60s", "scrape_timeout": "4s", "gateway": {"requests_per_second": 0.2},
    });
    let (scraper, _) = scraper_of(by_path(keys), vec![gateway.group(0..5)]);
    tokio::time::sleep(Duration::from_secs(50)).await;
    for target in &scraper.status()[0].active {
        assert_eq!(target.last_error, "server returned HTTP status 429 Too Many Requests");
    }
    scraper.shutdown().await;
    // Each is sent once; the last ones may not have come so far.
    let (requests, scheduled) = (gateway.seen().len() as u64, ledger(&scraper).scheduled);
    assert!(requests >= 5 && requests <= scheduled, "{requests} requests for {scheduled} scrapes");
}

/// The number of the application that is asked for.
fn app(seen: &Seen) -> u32 {
    let app = seen.path.trim_start_matches("/app-").trim_end_matches("/metrics");
    app.parse().unwrap()
}
