//! A pod in a cloud: targets, the program beside them, STS on the way to its workspaces, and what all of it left behind.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use promferry_aws_stand_in::{Call, Cloud, Issuer, Moto, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::account::{Account, Interruption};
use promferry_bench::farm::Farm;
use promferry_bench::proxy::Proxy;
use promferry_bench::sink::Sink;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::collector::{Collector, program, until};
use crate::iam::{ACCOUNT, AUDIENCE, REGION, ROLE, SERVICE_ACCOUNT, may_write, policy, workspace_arn};
use crate::outcome::assert_nothing_lost;
use crate::secrets::{Emitted, PAGES};

/// The workspace of every scene, and the name of the endpoint that writes to it.
pub(crate) const WORKSPACE: &str = "ws-own";
pub(crate) const APS: &str = "aps";
const TARGETS: usize = 3;
const SERIES: usize = 20;
/// Report series of a target.
const REPORTED: usize = 10;
/// Longer than anything here, and than a clock of AWS is off.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Scenes beside each other: they wait most of the time, but each is a process.
const AT_ONCE: usize = 12;

/// The targets, the cloud and the process of one scene.
pub(crate) struct Scene {
    pub(crate) cloud: Cloud,
    pub(crate) issuer: Issuer,
    pub(crate) token: ProjectedToken,
    pub(crate) sts: Sts,
    /// The way from the pod to STS.
    pub(crate) way: Proxy,
    pub(crate) workspaces: Workspaces,
    pub(crate) farm: Farm,
    environment: Vec<(&'static str, String)>,
    endpoints: Vec<Endpoint>,
    collector: Option<Collector>,
    interruptions: Vec<Interruption>,
    emitted: Mutex<Emitted>,
    /// Secrets that the cloud does not know.
    own_secrets: Vec<String>,
    folder: TempDir,
    _token_folder: TempDir,
}

struct Endpoint {
    name: String,
    workspace: String,
    /// What stands in `sigv4` beside the region.
    sigv4: String,
}

/// A cloud in memory, or in moto's server where that is asked for.
pub(crate) async fn cloud() -> Cloud {
    if std::env::var("PROMFERRY_STAND_IN").is_ok_and(|name| name == "moto") {
        return Cloud::moto(Moto::start(&Moto::python()).await.unwrap());
    }
    Cloud::memory()
}

impl Scene {
    /// A service account with a role that may write to one workspace. The process is not started.
    pub(crate) async fn new() -> Self {
        let cloud = cloud().await;
        let issuer = Issuer::start().await;
        cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE);
        let permissions = policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))]);
        cloud.add_role(ROLE, trust, Some(permissions), Duration::from_secs(3600)).await;
        // Not in the folder of what the program writes, which is searched for it.
        let token_folder = tempfile::tempdir().unwrap();
        let first = issuer.token(SERVICE_ACCOUNT, AUDIENCE, TOKEN_LIFETIME);
        let token = ProjectedToken::new(token_folder.path(), &first);
        let sts = Sts::start(&cloud).await;
        let listens = sts.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let way = Proxy::start(listens).await.unwrap();
        let workspaces = Workspaces::start(&cloud, REGION).await;
        let mut scene = Self {
            environment: vec![
                ("AWS_ROLE_ARN", ROLE.to_owned()),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
                ("AWS_ENDPOINT_URL_STS", format!("http://{}", way.address())),
                ("AWS_REGION", REGION.to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                ("RUST_BACKTRACE", "1".to_owned()),
            ],
            cloud,
            issuer,
            token,
            sts,
            way,
            workspaces,
            farm: Farm::start(TARGETS, SERIES).await.unwrap(),
            endpoints: Vec::new(),
            collector: None,
            interruptions: Vec::new(),
            emitted: Mutex::default(),
            own_secrets: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            _token_folder: token_folder,
        };
        scene.add_endpoint(APS, ACCOUNT, WORKSPACE, "").await;
        scene
    }

    /// A workspace, and an endpoint that writes to it.
    pub(crate) async fn add_endpoint(&mut self, name: &str, account: &str, workspace: &str, sigv4: &str) {
        self.workspaces.add(account, workspace, None).await;
        self.write_to(name, workspace, sigv4);
    }

    /// An endpoint, which takes the place of one of the same name. `sigv4` are options beside the region, each with a
    /// comma before it.
    pub(crate) fn write_to(&mut self, name: &str, workspace: &str, sigv4: &str) {
        let [name, workspace, sigv4] = [name, workspace, sigv4].map(str::to_owned);
        self.endpoints.retain(|endpoint| endpoint.name != name);
        self.endpoints.push(Endpoint { name, workspace, sigv4 });
    }

    /// What may be shown nowhere either.
    pub(crate) fn add_secret(&mut self, secret: &str) {
        self.own_secrets.push(secret.to_owned());
    }

    /// Gives the next start a variable.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.unset(name);
        self.environment.push((name, value.to_owned()));
    }

    /// Takes a variable from the next start; what it was.
    pub(crate) fn unset(&mut self, name: &str) -> String {
        let of_that_name = self.environment.extract_if(.., |(known, _)| *known == name);
        of_that_name.map(|(_, value)| value).next().unwrap_or_default()
    }

    /// The keys and the token of a session of the pod's role that somebody else has.
    pub(crate) async fn session_of_its_own(&self) -> [String; 3] {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", ROLE),
        ]);
        form.extend_pairs([
            ("RoleSessionName", "somebody"),
            ("WebIdentityToken", &self.token_for(TOKEN_LIFETIME)),
        ]);
        let request =
            http::Request::post(self.sts.url()).header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(bytes::Bytes::from(form.finish())).unwrap();
        let http = promferry_http_client::Http::new(&Default::default(), Default::default()).unwrap();
        let answer = promferry_http_client::Connection::new(http).send(request).await.unwrap();
        let answer = answer.into_body().read_to_end(1 << 20).await.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| {
            let (_, value) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{answer}"));
            value.split('<').next().unwrap().to_owned()
        })
    }

    /// A token of the service account that lasts so long.
    pub(crate) fn token_for(&self, lifetime: Duration) -> String {
        self.issuer.token(SERVICE_ACCOUNT, AUDIENCE, lifetime)
    }

    /// Starts the program and waits until it is ready, which it is whether or not anybody answers.
    pub(crate) async fn start(&mut self) {
        let exports: Vec<_> =
            self.environment.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        // Nothing of the machine's own identity and proxies.
        let script = format!(
            "for name in $(env | sed -n 's/^\\(AWS_[A-Z0-9_]*\\|[a-zA-Z]*_[pP][rR][oO][xX][yY]\\)=.*/\\1/p'); do unset \"$name\"; done\n\
             export HOME=/nonexistent {}\nexec \"$@\"",
            exports.join(" ")
        );
        self.collector = Some(Collector::start_by(self.folder.path(), &self.config(), Some(&script)));
        self.collector().until_ready().await;
    }

    fn config(&self) -> String {
        let targets: Vec<_> = self.farm.addresses().iter().map(|address| format!("'{address}'")).collect();
        let mut config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{cluster: test}}}}\n\
             scrape_configs:\n- job_name: farm\n  static_configs: [{{targets: [{}]}}]\nremote_write:\n",
            targets.join(", ")
        );
        for Endpoint { name, workspace, sigv4 } in &self.endpoints {
            let region = if sigv4.contains("region:") { "" } else { ", region: eu-west-1" };
            let sigv4 = format!("{region}{sigv4}");
            let sigv4 = sigv4.trim_start_matches(", ");
            config.push_str(&format!(
                "- name: {name}\n  url: {}\n  sigv4: {{{sigv4}}}\n  \
                 queue_config: {{batch_send_deadline: 500ms, max_backoff: 1s}}\n",
                self.workspaces.url(workspace)
            ));
        }
        config
    }

    pub(crate) fn collector(&self) -> &Collector {
        self.collector.as_ref().unwrap()
    }

    /// Kills the process with signal 9.
    pub(crate) async fn kill(&mut self) {
        let mut collector = self.collector.take().unwrap();
        self.interruptions.push(collector.kill(&self.farm).await);
    }

    /// Ends the process as Kubernetes does; how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        self.look().await;
        let mut collector = self.collector.take().unwrap();
        let stopped = collector.terminate().await;
        assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
        self.interruptions.extend(collector.interruption());
        stopped.after
    }

    pub(crate) fn sink(&self, name: &str) -> Arc<Sink> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap();
        self.workspaces.sink(&endpoint.workspace)
    }

    /// Samples that arrived for [`APS`].
    pub(crate) fn arrived(&self) -> u64 {
        self.sink(APS).stats().samples
    }

    /// Waits until so many more scrapes of all targets have arrived for [`APS`].
    pub(crate) async fn until_more(&self, scrapes: u64) {
        let enough = self.arrived() + scrapes * (TARGETS * SERIES) as u64;
        until(&format!("{scrapes} more scrapes"), async || self.arrived() >= enough).await;
    }

    /// Samples that wait for an endpoint.
    pub(crate) async fn waiting(&self, name: &str) -> f64 {
        let label = format!("remote_name=\"{name}\"");
        self.collector().metric("prometheus_remote_storage_samples_pending", &label).await
    }

    /// The most scrapes of all targets that wait for an endpoint at any time until this is over.
    pub(crate) async fn most_waiting(&self, name: &str, over: impl AsyncFnOnce()) -> u64 {
        let mut most = 0.0;
        let looking = async {
            loop {
                most = f64::max(most, self.waiting(name).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = over() => {}
            () = looking => {}
        }
        (most / (TARGETS * SERIES) as f64) as u64
    }

    /// Waits until so many scrapes of all targets wait for an endpoint.
    pub(crate) async fn until_waiting(&self, name: &str, scrapes: u64) {
        let enough = (scrapes * (TARGETS * SERIES) as u64) as f64;
        until(&format!("{scrapes} scrapes wait for {name}"), async || self.waiting(name).await >= enough)
            .await;
        self.look().await;
    }

    /// Waits until no more than the newest scrapes wait for an endpoint.
    pub(crate) async fn until_drained(&self, name: &str) {
        let few = (TARGETS * (SERIES + REPORTED)) as f64;
        until(&format!("{name} is drained"), async || {
            self.waiting(name).await <= few && self.sink(name).stats().samples > 0
        })
        .await;
    }

    /// Waits for a line of the log that has all of these, and gives the first.
    pub(crate) async fn said(&self, parts: &[&str]) -> String {
        let find = || {
            let log = self.collector().log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        };
        until(&format!("it says {parts:?}"), async || find().is_some()).await;
        // Pages that show an error are where a secret would be shown with it.
        self.look().await;
        find().unwrap()
    }

    /// Waits until the collector counts as delivered exactly what this endpoint's workspace has, each sample once.
    async fn until_counts_agree(&self, name: &str) {
        let label = format!("remote_name=\"{name}\"");
        until(&format!("what {name} delivered is what was received"), async || {
            let delivered = self.collector().metric("prometheus_remote_storage_samples_total", &label).await;
            let stats = self.sink(name).stats();
            delivered == stats.samples as f64
        })
        .await;
        assert_eq!(self.sink(name).stats().duplicates, 0, "{name}");
    }

    /// What STS was asked for credentials so far.
    pub(crate) fn refreshes(&self) -> Vec<Call> {
        self.sts.calls().into_iter().filter(|call| call.action != "GetCallerIdentity").collect()
    }

    /// The statuses with which a workspace answered so far.
    pub(crate) fn answers(&self, name: &str) -> Vec<u16> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap();
        let requests = self.workspaces.requests();
        let own = requests.iter().filter(|request| request.workspace == endpoint.workspace);
        own.filter_map(|request| request.status).map(|status| status.as_u16()).collect()
    }

    /// No request of [`APS`] was refused so far.
    pub(crate) fn assert_never_refused(&self) {
        let answers = self.answers(APS);
        assert!(answers.iter().all(|status| *status < 300), "{answers:?}");
    }

    fn emitted(&self) -> MutexGuard<'_, Emitted> {
        self.emitted.lock().unwrap()
    }

    /// Keeps what the program's pages show now, and what is in its files, such as data that waits.
    pub(crate) async fn look(&self) {
        let collector = self.collector.as_ref().unwrap();
        for (path, accept) in PAGES {
            let (status, _, page) = collector.page(path, accept).await.unwrap();
            assert_eq!(status, 200, "{path}");
            self.emitted().add(format!("{path} as {accept}"), page);
        }
        self.emitted().add_folder(self.folder.path());
    }

    /// Where something is shown among all that was kept.
    pub(crate) fn places_of(&self, text: &str) -> Vec<String> {
        self.emitted().places_of(text)
    }

    /// Keeps what `promferry aws whoami` says in the pod; its exit code: 0 where every endpoint may be written to, else 1.
    pub(crate) async fn ask_who(&self) -> i32 {
        let mut codes = Vec::new();
        for format in [None, Some("--json")] {
            let mut whoami = tokio::process::Command::new(program());
            let file = self.folder.path().join("prometheus.yml");
            whoami.args(["aws", "whoami", &format!("--config.file={}", file.display())]).args(format);
            whoami.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
            let output = whoami.output().await.unwrap();
            self.emitted().add(format!("whoami {format:?}"), output.stdout);
            self.emitted().add(format!("whoami {format:?}, standard error"), output.stderr);
            codes.push(output.status.code().unwrap());
        }
        assert_eq!(codes[0], codes[1], "{}", self.emitted().last());
        codes[0]
    }

    /// Everything scraped has arrived at every endpoint, once, in order, or will when it is started again and was in
    /// hand; nothing was dropped; and nothing that was written anywhere shows a secret.
    pub(crate) async fn ends_whole(mut self) -> Account {
        for endpoint in &self.endpoints {
            self.until_drained(&endpoint.name).await;
        }
        self.look().await;
        self.collector().assert_balanced().await;
        assert_eq!(self.collector().metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
        // Another life's count begins anew.
        if self.interruptions.is_empty() {
            for Endpoint { name, .. } in &self.endpoints {
                self.until_counts_agree(name).await;
            }
        }
        assert_eq!(self.ask_who().await, 0, "{}", self.emitted().last());
        let mut collector = self.collector.take().unwrap();
        let stopped = collector.terminate().await;
        assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
        self.interruptions.extend(collector.interruption());
        let mut account = None;
        for endpoint in &self.endpoints {
            let sink = self.sink(&endpoint.name);
            account = Some(assert_nothing_lost(&self.farm, &sink, &self.interruptions, &collector));
        }
        // Ended, what its last words are.
        self.emitted().add_folder(self.folder.path());
        self.emitted().assert_no_secret(&[self.cloud.secrets(), self.own_secrets.clone()].concat());
        assert!(!collector.log().contains("panicked"), "{}", collector.log());
        account.unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.folder.path().join("log"))
        {
            eprintln!("{log}");
        }
    }
}

/// A scene by its name.
pub(crate) type Named = (&'static str, fn(&Handle));

/// Names the scenes of a module for [`play`].
macro_rules! scenes {
    ($($scene:ident),+ $(,)?) => {
        pub(crate) fn scenes() -> Vec<$crate::scene::Named> {
            vec![$((concat!(module_path!(), "::", stringify!($scene)), |runtime| runtime.block_on($scene()))),+]
        }
    };
}
pub(crate) use scenes;

/// Plays scenes beside each other, whatever the number of threads that tests have: they wait for times to pass. Those
/// that failed are named at the end. `PROMFERRY_SCENE` plays only those whose names contain it.
pub(crate) async fn play(scenes: Vec<Named>) {
    let only = std::env::var("PROMFERRY_SCENE").unwrap_or_default();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let play = |(name, scene): Named| {
        let (runtime, turns) = (Handle::current(), Arc::clone(&turns));
        // A thread each, so that a panic names its scene.
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _turn = runtime.block_on(turns.acquire_owned());
            let start = Instant::now();
            scene(&runtime);
            eprintln!("{:5.1} s  {name}", start.elapsed().as_secs_f64());
        });
        (name, thread.unwrap())
    };
    let playing: Vec<_> = scenes.into_iter().filter(|(name, _)| name.contains(&only)).map(play).collect();
    assert!(!playing.is_empty(), "no scene has {only:?} in its name");
    let ended = tokio::task::spawn_blocking(|| {
        playing.into_iter().map(|(name, thread)| (name, thread.join().is_ok())).collect::<Vec<_>>()
    });
    let failed: Vec<_> =
        ended.await.unwrap().into_iter().filter(|(_, is_whole)| !is_whole).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}
