//! The image as it is, with a configuration and a spool.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use promferry_bench::account::{Account, Interruption};
use promferry_bench::clock::now_ms;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::collector::config;
use crate::container::Container;
use crate::network::{in_own_network, is_real_root};

#[test]
fn it_runs_as_nobody_read_only_and_delivers() {
    in_own_network("delivery::it_runs_as_nobody_read_only_and_delivers", async |image| {
        let (farm, sink) =
            (Farm::start(3, 50).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
        let config = config(farm.addresses(), &sink, "500ms");
        let mut container = Container::of(&image)
            .file("/etc/prometheus/prometheus.yml", &config)
            .volume("/prometheus")
            .start();
        container.until_ready().await;
        container.until("the first samples", async || sink.stats().samples > 500).await;

        let process = format!("/proc/{}", container.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let uid = if is_real_root() { "65534" } else { "0" };
        assert_eq!(field("Uid:"), [uid; 4], "as seen from outside");
        assert_eq!(
            fs::read_to_string(format!("{process}/uid_map")).unwrap().split_whitespace().next(),
            Some("65534")
        );
        assert_eq!(field("NSpid:").last().unwrap(), "1", "it is process 1, as in a container");
        assert_eq!((&*field("CapEff:")[0], &*field("NoNewPrivs:")[0]), ("0000000000000000", "1"));
        let mounts = fs::read_to_string(format!("{process}/mountinfo")).unwrap();
        let mounted: Vec<_> =
            mounts.lines().map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>()).collect();
        let of = |path: &str| mounted.iter().rfind(|mount| mount[0] == path).unwrap()[1];
        assert!(of("/").starts_with("ro"), "{mounts}");
        assert!(of("/prometheus").starts_with("rw"), "{mounts}");

        // The spool is where the image's command says.
        let spool = container.volume("/prometheus").join("spool");
        assert_eq!(fs::metadata(&spool).unwrap().uid().to_string(), uid);
        let began_ms = now_ms();
        assert_eq!(container.terminate().await, 0, "{}", container.log());
        container.restart();
        container.until_ready().await;
        let over_ms = now_ms();
        let before = sink.stats().samples;
        container.until("samples after a restart", async || sink.stats().samples > before + 500).await;
        let end_began_ms = now_ms();
        assert_eq!(container.terminate().await, 0, "{}", container.log());
        let stops = [(began_ms, over_ms), (end_began_ms, now_ms())];
        let stops = stops.map(|(began_ms, over_ms)| Interruption { began_ms, over_ms, grace_ms: 4000 });
        let account = Account::new(&farm.record(), &sink.received(), &stops);
        assert_eq!((account.lost, account.silent_targets), (0, 0), "{account:?}\n{}", container.log());
        let stats = sink.stats();
        assert_eq!((stats.out_of_order, stats.retimed, stats.duplicates), (0, 0, 0), "{stats:?}");
    });
}
