//! Real Ray clusters: a head and two workers with an application of Ray Serve.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use promferry_bench::http_call;
use promferry_bench::peers::Peer;
use promferry_bench::process::Process;
use promferry_cluster::Cluster;
use serde_json::{Value, json};

use crate::collector::{is_full_tier, until_within};
use crate::net::{NETWORK, Namespace, Network, answers, call, in_own_network, put, skip};
use crate::nginx::Nginx;
use crate::recipe::recipe;
use crate::scene::{LIMIT, Receiver, Scene, is_ended};

/// Where the head is, to everybody.
const HEAD: &str = "10.77.0.2";

/// Where Ray keeps its files: the path of a socket must be short.
const FOLDER: &str = "/run/ray";

const APPLICATION: &str = r#"
import ray
from ray import serve

@serve.deployment(num_replicas=3, max_replicas_per_node=1, ray_actor_options={"num_cpus": 0.1})
class Echo:
    def __call__(self, request):
        return "echo"

ray.init(address="auto")
serve.start(proxy_location="EveryNode")
serve.run(Echo.bind(), name="echo", route_prefix="/")
"#;

/// `ray.init()` of a notebook: a cluster of its own.
const NOTEBOOK: &str = r#"
import time
import ray

ray.init(include_dashboard=True, dashboard_host="0.0.0.0", num_cpus=1, object_store_memory=80000000, _temp_dir="/run/notebook")
time.sleep(600)
"#;

#[test]
fn a_cluster_in_every_way() {
    const TEST: &str = "ray::a_cluster_in_every_way";
    let Some(ray) = Ray::or_skip(TEST) else { return };
    let Some(nginx) = Peer::Nginx.or_skip(TEST) else { return };
    in_own_network(TEST, NETWORK, async || {
        let Some(cluster) = Cluster::start(TEST).await else { return };
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let network = Network::new(2);
        call(&[
            ("ray-head.ray.svc", HEAD),
            ("ray-gateway.ray.svc", HEAD),
            ("before-head-svc.ray.svc", HEAD),
            ("after-head-svc.ray.svc", HEAD),
        ]);
        let _gateway = Nginx::start(&nginx, Some(&network.gateway), "nginx", &["ray-gateway.conf"], "").await;
        ray.start_head(&network.gateway, &[]).await;
        for (number, worker) in (1..).zip(&network.workers) {
            ray.start_worker(worker, &format!("10.88.{number}.2")).await;
        }
        put("/run/application.py", APPLICATION);
        ray.run(&network.gateway, &["/run/application.py"], &[]).await;
        cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": "ray" } })).await;
        let nodes = [("head", HEAD), ("worker-1", "10.88.1.2"), ("worker-2", "10.88.2.2")];
        for (name, address) in nodes {
            cluster.create("/api/v1/namespaces/ray/pods", &node_pod(name, address)).await;
        }
        let agents: Vec<String> = nodes.iter().map(|(_, address)| format!("{address}:8080")).collect();
        let mut all = agents.clone();
        all.extend([format!("{HEAD}:44217"), format!("{HEAD}:44227")]);
        until_within(LIMIT, "the head lists all nodes", async || list(&[]).await.1.matches(':').count() >= 6)
            .await;
        let pods = format!("- role: pod\n        kubeconfig_file: {}", cluster.kubeconfig("admin").display());
        put("/etc/secrets/ray-token", "none is asked for\n");

        // Where the nodes can be reached.
        network.let_through(true);
        let file = [("/tmp/ray/", "/run/ray/")];
        let (by_pods, often) =
            ([("- role: pod", pods.as_str())], [("refresh_interval: 60s", "refresh_interval: 2s")]);
        for (name, changes, instances) in
            [("ray-pods", &by_pods, &agents), ("ray-file-sd", &file, &all), ("ray-http-sd", &often, &all)]
        {
            let scene =
                Scene::start(&receiver, name, &recipe(name, "5s", changes, &receiver.url()), &[]).await;
            scene.until_up(instances).await;
            assert_own_pages(&scene, &receiver, name, &agents).await;
            scene.end().await;
        }

        // Where only the head can be.
        network.let_through(false);
        for worker in &agents[1..] {
            assert!(!answers(worker).await, "{worker} can be reached without the head");
        }
        assert!(answers(&format!("{HEAD}:80")).await);
        let config = recipe("ray-via-head", "5s", &often, &receiver.url());
        let scene = Scene::start(&receiver, "ray-via-head", &config, &[]).await;
        scene.until_up(&all).await;
        assert_own_pages(&scene, &receiver, "ray-via-head", &agents).await;
        scene.end().await;

        // The head's name is made of labels, and the cluster gets another name while it is scraped.
        let config = recipe("ray-via-heads", "5s", &by_pods, &receiver.url());
        let scene = Scene::start(&receiver, "ray-via-heads", &config, &[]).await;
        scene.until_up(&agents).await;
        assert_own_pages(&scene, &receiver, "ray-via-heads", &agents).await;
        for (name, _) in nodes {
            let renamed = json!({ "metadata": { "labels": { "ray.io/cluster": "after" } } });
            cluster.patch(&format!("/api/v1/namespaces/ray/pods/{name}"), &renamed).await;
        }
        scene
            .until("the series of the old name have ended, and those of the new one are up", async || {
                let up = receiver.series("ray-via-heads", "up").await;
                let ended = |name: &str| {
                    up.iter()
                        .filter(|one| one.0["ray_io_cluster"] == name)
                        .map(|one| is_ended(one.1))
                        .collect::<Vec<_>>()
                };
                ended("before") == [true; 3] && ended("after") == [false; 3]
            })
            .await;
        // All of a page, not only what is made for it.
        for (labels, samples) in receiver.series("ray-via-heads", "ray_node_cpu_count").await {
            assert_eq!(is_ended(&samples), labels["ray_io_cluster"] == "before", "{labels:?}");
        }
        assert_own_pages(&scene, &receiver, "ray-via-heads", &agents).await;
        scene.end().await;
    });
}

#[test]
fn when_the_heads_list_asks_for_a_token() {
    const TEST: &str = "ray::when_the_heads_list_asks_for_a_token";
    let Some(ray) = Ray::or_skip(TEST) else { return };
    in_own_network(TEST, NETWORK, async || {
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let network = Network::new(0);
        let head = &network.gateway;
        call(&[("ray-head.ray.svc", HEAD)]);
        const TOKEN: &str = "planted-0123456789abcdef0123456789abcdef";
        let bearer = format!("Bearer {TOKEN}");

        // `ray start` on a machine that has no token asks for none.
        ray.start_head(head, &[]).await;
        assert_eq!(list(&[]).await.0, 200);
        ray.stop(head).await;

        // One that is there is asked for.
        put("/run/home/.ray/auth_token", TOKEN);
        ray.start_head(head, &[]).await;
        assert_eq!(list(&[]).await, (401, "Unauthorized: Missing authentication token".to_owned()));
        assert_eq!(list(&[("authorization", "Bearer another")]).await.0, 403);
        for header in ["authorization", "x-ray-authorization"] {
            assert_eq!(list(&[(header, &bearer)]).await.0, 200, "{header}");
        }
        // The nodes' metrics are not asked for one.
        for port in [8080, 44217, 44227] {
            let answer = http_call::get(format!("{HEAD}:{port}").parse().unwrap(), "/metrics").await;
            assert!(answer.is_ok(), "{port}: {answer:?}");
        }
        let often = ("refresh_interval: 60s", "refresh_interval: 2s");
        let key = "        authorization: {credentials_file: /etc/secrets/ray-token}\n";
        let config = recipe("ray-http-sd", "3s", &[often, (key, "")], &receiver.url());
        let scene = Scene::start(&receiver, "ray-http-sd", &config, &[]).await;
        scene.until_said("status 401 Unauthorized: set authorization").await;
        scene.end().await;
        put("/etc/secrets/ray-token", "another\n");
        let config = recipe("ray-http-sd", "3s", &[often], &receiver.url());
        let scene = Scene::start(&receiver, "ray-http-sd", &config, &[]).await;
        scene.until_said("status 403 Forbidden: the credentials").await;
        put("/etc/secrets/ray-token", &format!("{TOKEN}\n"));
        scene.until_up(&[8080, 44217, 44227].map(|port| format!("{HEAD}:{port}"))).await;
        assert!(!scene.collector.written_log().contains(TOKEN), "the log shows the token");
        scene.end().await;
        ray.stop(head).await;

        // Unless it is told not to.
        ray.start_head(head, &[("RAY_AUTH_MODE", "disabled")]).await;
        assert_eq!(list(&[]).await.0, 200);
        ray.stop(head).await;

        // By the environment alone.
        fs::remove_file("/run/home/.ray/auth_token").unwrap();
        ray.start_head(head, &[("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", TOKEN)]).await;
        assert_eq!((list(&[]).await.0, list(&[("authorization", &bearer)]).await.0), (401, 200));
        ray.stop(head).await;

        // A cluster that ray.init() starts makes a token where there is none, and asks for it.
        put("/run/notebook.py", NOTEBOOK);
        let words = ray.words(&["/run/notebook.py"], &[]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _notebook =
            Process::start(Path::new("nsenter"), head.enter(&words), Path::new("/run/notebook.log")).unwrap();
        let started = Instant::now();
        while list(&[]).await.0 == 0 {
            let said = || fs::read_to_string("/run/notebook.log").unwrap_or_default();
            assert!(started.elapsed() < LIMIT, "the notebook's cluster does not answer:\n{}", said());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(list(&[]).await.0, 401);
        let made = fs::read_to_string("/run/home/.ray/auth_token").unwrap();
        assert_eq!(list(&[("authorization", &format!("Bearer {}", made.trim()))]).await.0, 200);
    });
}

/// The programs of Ray.
struct Ray {
    python: PathBuf,
}

impl Ray {
    /// Nothing, said aloud, but in the full tier, which has to have it: a cluster takes a minute and two gigabytes.
    fn or_skip(test: &str) -> Option<Self> {
        let folder = env::var_os("PROMFERRY_RAY")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/ray"), PathBuf::from);
        let python = folder.join("bin/python");
        if !python.is_file() {
            skip(test, "Ray is missing, run scripts/python ray");
        } else if !is_full_tier() {
            skip(test, "Ray's clusters are for PROMFERRY_TIER=full");
        } else {
            return Some(Self { python });
        }
        None
    }

    async fn start_head(&self, at: &Namespace, environment: &[(&str, &str)]) {
        let address = format!("--node-ip-address={HEAD}");
        let folder = format!("--temp-dir={FOLDER}");
        let arguments = ["--head", "--port=6379", "--dashboard-host=0.0.0.0", &address, &folder];
        self.start(at, &arguments, environment).await;
        until_within(LIMIT, "the head answers", async || answers(&format!("{HEAD}:8265")).await).await;
        until_within(LIMIT, "its metrics too", async || {
            answers(&format!("{HEAD}:8080")).await
                && answers(&format!("{HEAD}:44217")).await
                && answers(&format!("{HEAD}:44227")).await
        })
        .await;
    }

    async fn start_worker(&self, at: &Namespace, address: &str) {
        let (head, address) = (format!("--address={HEAD}:6379"), format!("--node-ip-address={address}"));
        self.start(at, &[&head, &address], &[]).await;
    }

    async fn start(&self, at: &Namespace, arguments: &[&str], environment: &[(&str, &str)]) {
        let mut words =
            vec!["-m", "ray.scripts.scripts", "start", "--metrics-export-port=8080", "--num-cpus=1"];
        words.extend(["--object-store-memory=80000000", "--disable-usage-stats"]);
        words.extend(arguments);
        self.run(at, &words, environment).await;
    }

    /// Ends every process of Ray that is in the process tree of the test.
    async fn stop(&self, at: &Namespace) {
        self.run(at, &["-m", "ray.scripts.scripts", "stop", "--force"], &[]).await;
        until_within(LIMIT, "Ray has ended", async || {
            !answers(&format!("{HEAD}:8265")).await && !answers(&format!("{HEAD}:6379")).await
        })
        .await;
    }

    /// Runs Python to its end.
    async fn run(&self, at: &Namespace, arguments: &[&str], environment: &[(&str, &str)]) {
        let words = self.words(arguments, environment);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // What it starts keeps what it is given to print to: a pipe would never end.
        let log = fs::File::options().append(true).create(true).open("/run/ray.log").unwrap();
        let mut command = tokio::process::Command::new("nsenter");
        command.args(at.enter(&words)).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let status = tokio::time::timeout(LIMIT, command.kill_on_drop(true).status()).await;
        let said = fs::read_to_string("/run/ray.log").unwrap_or_default();
        assert!(status.is_ok_and(|status| status.unwrap().success()), "{arguments:?}:\n{said}");
    }

    /// Python in an environment without settings of Ray and with a home of its own.
    fn words(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let mut words = vec!["env".to_owned(), "-i".to_owned(), "HOME=/run/home".to_owned()];
        words.push(format!("PATH={}", env::var("PATH").unwrap_or_default()));
        words.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
        words.push(self.python.display().to_string());
        words.extend(arguments.iter().map(ToString::to_string));
        words
    }
}

/// Each of these nodes' agents shows its own page, under an instance of its own, and nothing of it is refused.
async fn assert_own_pages(scene: &Scene<'_>, receiver: &Receiver, recipe: &str, agents: &[String]) {
    for agent in agents {
        // Ray Serve's series come with the first report of the replicas.
        for metric in ["ray_node_cpu_count", "ray_serve_.+"] {
            let selector = format!("{{recipe=\"{recipe}\",instance=\"{agent}\",__name__=~\"{metric}\"}}");
            let what = format!("{agent} shows {metric}");
            scene.until(&what, async || !receiver.found(&selector).await.is_empty()).await;
        }
        // The address that the node itself says it has.
        let address = agent.split_once(':').unwrap().0;
        let selector =
            format!("{{recipe=\"{recipe}\",instance=\"{agent}\",__name__=\"ray_node_cpu_count\"}}");
        for labels in receiver.found(&selector).await {
            assert_eq!(labels["ip"], address, "{labels:?}");
        }
    }
    for labels in receiver.found(&format!("{{recipe=\"{recipe}\"}}")).await {
        assert_eq!(labels["job"], "ray", "{labels:?}");
    }
    scene.assert_nothing_refused().await;
}

/// What the head's list of targets answers to these headers: status and text.
async fn list(headers: &[(&str, &str)]) -> (u16, String) {
    let address = format!("{HEAD}:8265").parse().unwrap();
    let answer = http_call::call(address, http::Method::GET, "/api/prometheus/sd", headers, Vec::new()).await;
    answer.map_or((0, String::new()), |(status, body)| {
        (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    })
}

/// A pod of a node as KubeRay makes it.
fn node_pod(name: &str, address: &str) -> Value {
    let node_type = if name == "head" { "head" } else { "worker" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "ray.io/is-ray-node": "yes",
                "ray.io/cluster": "before",
                "ray.io/node-type": node_type,
                "ray.io/group": format!("{node_type}group"),
            },
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{
                "name": "ray",
                "image": "rayproject/ray",
                "ports": [
                    { "name": "metrics", "containerPort": 8080 },
                    { "name": "dashboard", "containerPort": 8265 },
                ],
            }],
        },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] },
    })
}
