//! The report and the exit status.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use promferry_bench::port::HeldPort;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use tokio::net::TcpListener;

use crate::program::{command, dry_run};

const PAGE: &str =
    "# TYPE requests counter\nrequests_total{path=\"/\"} 1\nrequests_total{path=\"/a\"} 2\nload 3\n";

/// Runs what blocks without holding up the targets.
async fn in_folder<T: Send + 'static>(folder: &Path, work: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || work(&folder)).await.unwrap()
}

/// A configuration with something of everything, and the whole report of it. Only addresses, sizes and free space are
/// replaced.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_mixed_configuration_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let well = ScriptedTarget::start(Page::text(PAGE)).await.unwrap();
    let second = ScriptedTarget::start(Page::text(PAGE)).await.unwrap();
    // Targets come in the order of their URLs.
    let in_order = well.address().to_string() < second.address().to_string();
    let (well, second) = if in_order { (well, second) } else { (second, well) };
    let failing = ScriptedTarget::start(Page::status(StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap();
    let (nobody, neither) = (HeldPort::any().unwrap(), HeldPort::any().unwrap());
    let in_order = nobody.address().to_string() < neither.address().to_string();
    let (nobody, neither) = if in_order { (nobody, neither) } else { (neither, nobody) };
    let long = ScriptedTarget::start(Page::text(format!("orders{{basket=\"{}\"}} 1\n", "x".repeat(3000))));
    let long = long.await.unwrap();
    let names = [
        (well.address(), "WELL:1"),
        (second.address(), "SECOND:1"),
        (failing.address(), "FAILING:1"),
        (nobody.address(), "NOBODY:1"),
        (neither.address(), "NEITHER:1"),
        (long.address(), "LONG:1"),
    ];
    let mut config = include_str!("../data/dry-run/mixed.yml").to_owned();
    for (address, name) in names {
        config = config.replace(name, &address.to_string());
    }
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let run = in_folder(folder.path(), |folder| dry_run(folder, &["--config.file=prometheus.yml"])).await;
    let mut report = run.report;
    for (address, name) in names {
        report = report.replace(&address.to_string(), name);
    }
    for (pattern, with) in [
        (r"largest request \S+ \S+ \(", "largest request SIZE ("),
        (r"writable, \S+ \S+ free", "writable, SPACE free"),
    ] {
        report = regex::Regex::new(pattern).unwrap().replace_all(&report, with).into_owned();
    }
    let expected = include_str!("../data/dry-run/mixed.txt");
    assert_eq!(report, expected, "\n--- is\n{report}\n--- log\n{}", run.log);
    assert_eq!(run.status, 1);
}

/// Where targets come from has failed, and says so once; secrets of URLs are not shown.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_that_fails_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = HeldPort::any().unwrap();
    let target = ScriptedTarget::start(Page::status(StatusCode::NOT_FOUND)).await.unwrap();
    let config = format!(
        "scrape_configs:\n- {{job_name: listed, http_sd_configs: [{{url: 'http://user:sesame@{0}/targets'}}]}}\n\
         - {{job_name: none}}\n- job_name: probed\n  params: {{token: [sesame]}}\n  \
         static_configs: [{{targets: ['{1}']}}]\nremote_write:\n- url: 'http://user:sesame@mimir/api/v1/push'\n",
        nobody.address(),
        target.address(),
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let run = in_folder(folder.path(), |folder| dry_run(folder, &["--config.file=prometheus.yml"])).await;
    let (nobody, target) = (nobody.address(), target.address());
    assert_eq!(
        run.findings(),
        [
            format!(
                "prometheus.yml:2: job listed: http discovery (http://user:xxxxx@{nobody}/targets) fails: cannot connect to \
                 {nobody}: connection refused"
            ),
            "prometheus.yml:3: job none: no targets: nothing says where they are, such as static_configs"
                .to_owned(),
            format!(
                "prometheus.yml:4: job probed: 1 of 1 target down: server returned HTTP status 404 Not Found \
                 (http://{target}/metrics)"
            ),
        ],
        "{run:?}"
    );
    assert!(!run.report.contains("sesame"), "{}", run.report);
}

/// Series that are apart only by what an endpoint's rules take away.
#[tokio::test(flavor = "multi_thread")]
async fn series_that_one_endpoint_would_not_get_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let targets = [
        ScriptedTarget::start(Page::text(PAGE)).await.unwrap(),
        ScriptedTarget::start(Page::text(PAGE)).await.unwrap(),
    ];
    let config = format!(
        "scrape_configs:\n- {{job_name: a, static_configs: [{{targets: ['{}', '{}']}}]}}\n\
         remote_write:\n- {{name: all, url: 'http://mimir/api/v1/push'}}\n- name: merged\n  \
         url: http://mimir/api/v1/push\n  write_relabel_configs: [{{regex: instance, action: labeldrop}}]\n",
        targets[0].address(),
        targets[1].address()
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let run = in_folder(folder.path(), |folder| dry_run(folder, &["--config.file=prometheus.yml"])).await;
    let told = r"^the series \{.*\} is not sent to every endpoint: .* labels of a series of http://127.0.0.1:\d+/metrics$";
    let told = regex::Regex::new(told).unwrap();
    let findings = run.findings();
    assert!(matches!(findings.as_slice(), [finding] if told.is_match(finding)), "{run:?}");
    for line in ["remote_write all      16 series", "remote_write merged   8 series "] {
        assert!(run.report.contains(line), "{}", run.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_exits_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let target = ScriptedTarget::start(Page::text(PAGE)).await.unwrap();
    let config = format!(
        "scrape_configs:\n- {{job_name: a, static_configs: [{{targets: ['{}']}}]}}\n\
         remote_write:\n- url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write\n  \
         sigv4: {{region: eu-west-1}}\n",
        target.address()
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let run = in_folder(folder.path(), |folder| dry_run(folder, &["--config.file=prometheus.yml"])).await;
    assert_eq!((run.status, run.findings()), (0, vec![]), "{run:?}");
    assert!(run.report.contains("signs with what"), "{}", run.report);
    assert_eq!(target.scrapes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_or_stored() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("wal"), "of somebody else").unwrap();
    let target = ScriptedTarget::start(Page::text(PAGE)).await.unwrap();
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "scrape_configs:\n- {{job_name: a, static_configs: [{{targets: ['{}']}}]}}\n\
         remote_write:\n- {{url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 10ms}}}}\n",
        target.address(),
        endpoint.local_addr().unwrap()
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let stamp = |path: &Path| {
        let metadata = path.metadata().unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size())
    };
    let before = (stamp(&data), stamp(&data.join("wal")), stamp(folder.path()));
    let run = in_folder(folder.path(), |folder| dry_run(folder, &["--config.file=prometheus.yml"])).await;
    assert_eq!((run.status, run.findings()), (0, vec![]), "{run:?}");
    assert!(run.report.contains("(8 samples)"), "3 of the page and 5 of the scrape: {}", run.report);
    assert_eq!(before, (stamp(&data), stamp(&data.join("wal")), stamp(folder.path())));
    let connected = tokio::time::timeout(Duration::from_millis(50), endpoint.accept()).await;
    assert!(connected.is_err(), "the endpoint was connected to");
}

#[test]
fn exit_statuses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("unreadable.yml"), "scrape_configs: [{job_nam: a}]\n").unwrap();
    std::fs::write(folder.path().join("empty.yml"), "\n").unwrap();
    let unreadable = dry_run(folder.path(), &["--config.file=unreadable.yml"]);
    assert_eq!((unreadable.status, unreadable.report.as_str()), (2, ""), "{unreadable:?}");
    assert!(unreadable.log.contains("unreadable.yml:1:19"), "{}", unreadable.log);
    assert_eq!(dry_run(folder.path(), &["--config.file=not-there.yml"]).status, 2);
    let empty = dry_run(folder.path(), &["--config.file=empty.yml"]);
    assert_eq!(empty.status, 1);
    assert_eq!(
        empty.findings(),
        ["there are no scrape_configs: nothing is scraped", "there is no remote_write: nothing is sent"]
    );
    let flags =
        ["--config.file=empty.yml", "--web.config.file=not-there.yml", "--storage.agent.path=empty.yml/data"];
    let around = dry_run(folder.path(), &flags);
    let findings = around.findings();
    let [.., pages, storage] = findings.as_slice() else { panic!("{around:?}") };
    assert!(pages.starts_with("a run would not start: ") && pages.contains("not-there.yml"), "{pages}");
    assert!(
        storage.starts_with("--storage.agent.path empty.yml/data: nothing can be written there: ")
            && storage.ends_with("empty.yml is no directory"),
        "{storage}"
    );
    for wrong in [&["--dry-run=soon"][..], &["--dry-run", "--confg.file=empty.yml"]] {
        let output = command(folder.path(), wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
}

/// A target that never answers holds it up no longer than is said, and SIGINT ends it at once.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    // Connections are taken by the kernel, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = ScriptedTarget::start(Page::text(PAGE)).await.unwrap();
    let config = format!(
        "global: {{scrape_interval: 1m, scrape_timeout: 1m}}\n\
         scrape_configs:\n- {{job_name: a, static_configs: [{{targets: ['{}', '{}']}}]}}\n\
         remote_write:\n- {{name: b, url: 'http://127.0.0.1:1/api/v1/write'}}\n",
        target.address(),
        silent.local_addr().unwrap()
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let arguments = ["--config.file=prometheus.yml", "--web.listen-address=127.0.0.1:0"];
    let limited = in_folder(folder.path(), move |folder| {
        dry_run(folder, &["--config.file=prometheus.yml", "--dry-run=5s"])
    });
    let limited = limited.await;
    let expected = format!(
        "prometheus.yml:3: job a: 1 of 2 targets were not scraped within 5s (such as http://{}/metrics)",
        silent.local_addr().unwrap()
    );
    assert_eq!((limited.status, limited.findings()), (1, vec![expected.as_str()]), "{limited:?}");
    assert!(limited.report.contains("up 1   down 0   not scraped 1   3 series"), "{}", limited.report);
    assert!(limited.report.contains("ended after 5s, before everything was known"), "{}", limited.report);

    let interrupted = in_folder(folder.path(), move |folder| {
        let mut command = command(folder, &arguments);
        let child = command.arg("--dry-run=5m").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        // The run before has scraped it too.
        while target.scrapes().len() < 2 {
            assert!(started.elapsed() < Duration::from_secs(60), "it has scraped nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        // What was answered is read, too.
        std::thread::sleep(Duration::from_secs(1));
        let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
        output
    });
    let interrupted = interrupted.await;
    let report = String::from_utf8(interrupted.stdout).unwrap();
    assert_eq!(interrupted.status.code(), Some(1), "{report}");
    assert!(report.contains("ended by a signal"), "{report}");
    assert!(report.contains("1 of 2 targets were not scraped before the end that was asked for"), "{report}");
}
