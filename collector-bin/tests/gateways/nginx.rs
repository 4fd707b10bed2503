//! Debian's nginx with the files of `examples/nginx`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use promferry_bench::peers::Peer;
use promferry_bench::process::Process;
use serde_json::json;

use crate::net::{NETWORK, Namespace, Network, answers, call, in_own_network, put};
use crate::pages::Authority;
use crate::recipe::{example, recipe};
use crate::scene::{LIMIT, Receiver, Scene};

/// A server of its own folder below `/etc`, which ends with this.
pub(crate) struct Nginx {
    folder: PathBuf,
    _process: Process,
}

/// A request as it was logged.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) status: u16,
    pub(crate) connection: u64,
    pub(crate) path: String,
}

impl Nginx {
    /// Starts one in a namespace, or here, with files of `examples/nginx` as they are and with further servers. Its
    /// folder is `/etc/NAME`.
    pub(crate) async fn start(
        program: &Path,
        namespace: Option<&Namespace>,
        name: &str,
        examples: &[&str],
        servers: &str,
    ) -> Self {
        let folder = Path::new("/etc").join(name);
        for file in examples {
            put(&format!("/etc/{name}/conf.d/{file}"), &example(&format!("nginx/{file}")));
        }
        // One process that stays who it is: root of a user namespace can neither become anybody else nor give files away.
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path /etc/{name}/{kind};\n"))
            .collect();
        let config = format!(
            "user root root;\ndaemon off;\nmaster_process off;\npid /etc/{name}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n{temporary}log_format plain '$status $connection $uri';\n\
             access_log /etc/{name}/access.log plain;\n\
             include conf.d/*.conf;\n{servers}\n}}\n"
        );
        let (file, log) = (folder.join("nginx.conf"), folder.join("log"));
        put(file.to_str().unwrap(), &config);
        let command = [
            program.to_str().unwrap(),
            "-e",
            "stderr",
            "-p",
            folder.to_str().unwrap(),
            "-c",
            file.to_str().unwrap(),
        ];
        let process = match namespace {
            Some(namespace) => Process::start(Path::new("nsenter"), namespace.enter(&command), &log),
            None => Process::start(program, &command[1..], &log),
        };
        let mut process = process.unwrap();
        let started = Instant::now();
        while fs::read_to_string(folder.join("pid")).unwrap_or_default().is_empty() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(process.is_running() && started.elapsed() < LIMIT, "nginx does not start: {said}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Self { folder, _process: process }
    }

    /// Every request that it has answered.
    pub(crate) fn requests(&self) -> Vec<Logged> {
        let log = fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let read = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_else(|| panic!("{line:?}"));
            let (status, connection) = (next().parse().unwrap(), next().parse().unwrap());
            Logged { status, connection, path: next().to_owned() }
        };
        whole.lines().map(read).collect()
    }
}

#[test]
fn a_hundred_applications_behind_one_address_are_told_apart_by_name() {
    const TEST: &str = "nginx::a_hundred_applications_behind_one_address_are_told_apart_by_name";
    let Some(program) = Peer::Nginx.or_skip(TEST) else { return };
    in_own_network(TEST, &[], async || {
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let names: Vec<String> =
            (1..=100).map(|number| format!("app-{number:03}.apps.example.com")).collect();
        let authority = Authority::new();
        let identity = authority.identity("*.apps.example.com");
        put("/etc/nginx/tls/apps.example.com.crt", &identity.certificate_pem);
        put("/etc/nginx/tls/apps.example.com.key", &identity.key_pem);
        put("/etc/secrets/gateway-ca.crt", &authority.pem());
        let mut map = String::new();
        for (port, name) in (9001..).zip(&names) {
            writeln!(map, "{name} 127.0.0.1:{port};").unwrap();
        }
        put("/etc/nginx/applications.map", &map);
        put("/etc/promferry/applications/all.json", &json!([{ "targets": names }]).to_string());
        // Only the gateway's name is known: the applications' are none that could be looked up.
        call(&[("gateway.example.com", "127.0.0.1")]);
        let applications = "server { listen 127.0.0.1:9001-9100; location = /metrics { default_type \
                            'text/plain; version=0.0.4'; return 200 'application_port{name=\"$http_host\"} \
                            $server_port\n'; } }";
        let nginx = Nginx::start(&program, None, "nginx", &["by-host.conf"], applications).await;

        let config = recipe("applications-by-host", "1s", &[], &receiver.url());
        let scene = Scene::start(&receiver, "applications-by-host", &config, &[]).await;
        scene.until_up(&names).await;
        for (series, samples) in receiver.series("applications-by-host", "application_port").await {
            let port = f64::from_bits(samples.floats.last().unwrap().1);
            let number = names.iter().position(|name| *name == series["instance"]).unwrap();
            assert_eq!(
                (&series["name"], port),
                (&series["instance"], 9001.0 + number as f64),
                "its own page"
            );
        }
        scene.assert_nothing_refused().await;
        let requests = nginx.requests();
        assert!(requests.iter().all(|request| request.status == 200), "{requests:?}");
        scene.end().await;

        // Without a name of its own none of them gets as far as a certificate.
        let rule = "      - {source_labels: [__address__], target_label: __host__}\n";
        let config = recipe("applications-by-host", "1s", &[(rule, "")], &receiver.url());
        let config = config.replace("replacement: applications-by-host", "replacement: without-host");
        let scene = Scene::start(&receiver, "without-host", &config, &[]).await;
        scene
            .until("all are down", async || {
                let up = receiver.values("without-host", "up", "instance").await;
                up.len() == 100 && up.values().all(|up| *up == 0.0)
            })
            .await;
    });
}

/// What Ray 2.60's head answers to who has no token.
const NO_TOKEN: &str = "Unauthorized: Missing authentication token";

#[test]
fn three_hundred_targets_that_only_the_gateway_reaches() {
    const TEST: &str = "nginx::three_hundred_targets_that_only_the_gateway_reaches";
    let Some(program) = Peer::Nginx.or_skip(TEST) else { return };
    in_own_network(TEST, NETWORK, async || {
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let network = Network::new(2);
        let targets: Vec<String> = (0..300)
            .map(|number| {
                let (worker, host, port) =
                    (1 + number % 2, 130 + number / 6, [8080, 44217, 44227][number / 2 % 3]);
                format!("10.88.{worker}.{host}:{port}")
            })
            .collect();
        assert_eq!(targets.iter().collect::<BTreeSet<_>>().len(), 300);
        let pages = "server { listen 8080; listen 44217; listen 44227; location = /metrics { default_type \
                     'text/plain; version=0.0.4'; return 200 'page_of{address=\"$server_addr:$server_port\"} 1\n'; } }";
        let mut workers = Vec::new();
        for (number, worker) in (1..).zip(&network.workers) {
            workers.push(Nginx::start(&program, Some(worker), &format!("worker-{number}"), &[], pages).await);
        }
        // The head's list, as Ray 2.60 serves it.
        put("/etc/nginx/sd.json", &json!([{ "labels": { "job": "ray" }, "targets": targets }]).to_string());
        let head = format!(
            "server {{ listen 8265; location = /api/prometheus/sd {{ \
             if ($http_authorization != 'Bearer right') {{ return 401 '{NO_TOKEN}'; }} \
             default_type application/json; alias /etc/nginx/sd.json; }} }}"
        );
        let gateway =
            Nginx::start(&program, Some(&network.gateway), "nginx", &["ray-gateway.conf"], &head).await;
        call(&[("ray-head.ray.svc", "10.77.0.2"), ("ray-gateway.ray.svc", "10.77.0.2")]);
        assert!(answers("10.77.0.2:80").await && !answers(&targets[0]).await, "the gateway is the only way");

        put("/etc/secrets/ray-token", "wrong\n");
        let changes = [("refresh_interval: 60s", "refresh_interval: 1s")];
        let config = recipe("ray-via-head", "4s", &changes, &receiver.url());
        let scene = Scene::start(&receiver, "ray-via-head", &config, &[]).await;
        scene.until_said("status 401 Unauthorized: set authorization").await;
        put("/etc/secrets/ray-token", "right\n");
        scene.until_up(&targets).await;

        // Some rounds more, all together at the interval that they have.
        let through = || {
            gateway
                .requests()
                .into_iter()
                .filter(|request| request.path.starts_with("/node/"))
                .collect::<Vec<_>>()
        };
        scene.until("each was scraped four times", async || through().len() >= 1200).await;
        let requests = through();
        // 499 is nginx' word for a scrape that was given up, as happens on a machine that is too busy; its connection goes.
        let (given_up, others): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.status == 499);
        // Who asks in its place may come before nginx has noticed that it is gone, and is one too many then.
        let (too_many, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|request| request.status == 503);
        assert!(too_many.len() <= given_up.len(), "{} refused, {} given up", too_many.len(), given_up.len());
        let refused: Vec<_> = others.iter().filter(|request| request.status != 200).collect();
        assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), requests.len(), refused[0]);
        let connections: BTreeSet<u64> = requests.iter().map(|request| request.connection).collect();
        let (lent, most) = (connections.len(), 32 + given_up.len());
        assert!(lent <= most, "{lent} connections for {} requests, {most} at most", requests.len());
        for series in receiver.series("ray-via-head", "page_of").await.keys() {
            assert_eq!(series["address"], series["instance"], "its own page: {series:?}");
            assert_eq!(series["job"], "ray", "the head's label wins over job_name");
        }
        scene.assert_nothing_refused().await;
        scene.end().await;
    });
}
