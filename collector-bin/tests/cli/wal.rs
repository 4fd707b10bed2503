//! A folder in which Prometheus stored is left as it was.

use std::collections::BTreeMap;
use std::path::Path;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::peers::Peer;
use promferry_bench::process::{Process, free_address};
use promferry_bench::sink::Sink;

use crate::collector::{LIMIT, config, until};
use crate::published::Published;

/// Every file below a folder with its content, and every folder with none.
fn tree(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                found.insert(name, Some(std::fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// Has Prometheus store something; without it, files as it names them are written.
async fn left_by_prometheus(folder: &Path, farm: &Farm, sink: &Sink, mode: &[&str]) {
    let storage = folder.join("data");
    let Some(prometheus) = Peer::Prometheus.or_skip("what Prometheus itself stores") else {
        for (file, content) in [
            ("wal/00000000", &b"\x01\x02log"[..]),
            ("wal/checkpoint.00000003/00000000", b"checkpoint"),
            ("chunks_head/000001", b"\x01\x30\xbc\x91"),
            ("queries.active", b"[\0\0"),
            ("lock", b""),
        ] {
            let path = storage.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        return;
    };
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config(farm.addresses(), sink, "500ms")).unwrap();
    let mut arguments = vec![
        format!("--config.file={}", file.display()),
        format!("--web.listen-address={}", free_address().unwrap()),
    ];
    arguments.extend(mode.iter().map(|flag| flag.replace("DATA", &storage.display().to_string())));
    let before = farm.record().targets[0].answered.len();
    let mut process = Process::start(&prometheus, &arguments, &folder.join("prometheus.log")).unwrap();
    until("Prometheus scrapes", async || farm.record().targets[0].answered.len() > before + 3).await;
    process.terminate(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wal_of_prometheus_is_untouched() {
    for (mode, flag) in [
        (&["--agent", "--storage.agent.path=DATA"][..], "--storage.agent.path=/data"),
        (&["--storage.tsdb.path=DATA"], "--storage.tsdb.path=/data"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (farm, sink) =
            (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
        left_by_prometheus(folder.path(), &farm, &sink, mode).await;
        let left = tree(&folder.path().join("data"));
        assert!(left.contains_key("wal/00000000"), "{:?}", left.keys());
        std::fs::write(folder.path().join("own.yml"), config(farm.addresses(), &sink, "500ms")).unwrap();
        let words = ["/bin/prometheus", "--agent", "--config.file=/own.yml", flag].map(str::to_owned);
        let before = sink.stats().samples;
        let started = Published::start(folder.path(), &words, &[]);
        started.until_ready().await;
        until("samples arrive", async || sink.stats().samples > before + 40).await;
        let log = started.stop().await;
        let mut now = tree(&folder.path().join("data"));
        now.retain(|name, _| !["spool", "pages"].iter().any(|own| name.split('/').next() == Some(own)));
        assert!(now == left, "{:?} became {:?}\n{log}", left.keys(), now.keys());
    }
}
