//! An observability hub: clusters of several accounts write to one workspace, and one cluster writes to workspaces of
//! several accounts. Whoever is shut out keeps what it has and delivers it later; the others do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use promferry_aws_stand_in::{Cloud, Fault, Issuer, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::farm::Farm;
use tempfile::TempDir;

use crate::collector::{Collector, is_full_tier, program, until};
use crate::outcome::assert_nothing_lost;
use crate::pace::measure;
use crate::scene;
use crate::secrets::{Emitted, PAGES};

const REGION: &str = "eu-central-1";
/// The account of the hub.
const HUB: &str = "999988887777";
const WORKSPACE: &str = "ws-hub";
const SUBJECT: &str = "system:serviceaccount:monitoring:promferry";
const AUDIENCE: &str = "sts.amazonaws.com";
const HOUR: Duration = Duration::from_secs(3600);
const TARGETS: usize = 4;
const SERIES: usize = 50;
/// Samples of one scrape of all targets, with the series that a scrape adds.
const SCRAPE: f64 = (TARGETS * (SERIES + 10)) as f64;

/// How the clusters' writes come into the hub's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each assumes a role of its own there.
    Roles,
    /// The workspace's resource policy names their own roles.
    ResourcePolicy,
}

/// A cluster in an account of its own, and the program in it.
struct Cluster {
    name: &'static str,
    account: &'static str,
    token: ProjectedToken,
    collector: Option<Collector>,
    emitted: Mutex<Emitted>,
    folder: TempDir,
    _token_folder: TempDir,
}

struct Hub {
    way: Way,
    cloud: Cloud,
    sts: Sts,
    workspaces: Workspaces,
    /// The pods: of every cluster at the same addresses.
    farm: Farm,
    clusters: Vec<Cluster>,
}

impl Cluster {
    async fn new(cloud: &Cloud, name: &'static str, account: &'static str, permissions: Policy) -> Self {
        let issuer = Issuer::start().await;
        cloud.add_provider(account, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(account), SUBJECT, AUDIENCE);
        cloud.add_role(&own_role(account), trust, Some(permissions), HOUR).await;
        // Not in the folder of what the program writes, which is searched for it.
        let token_folder = tempfile::tempdir().unwrap();
        let token = ProjectedToken::new(token_folder.path(), &issuer.token(SUBJECT, AUDIENCE, HOUR));
        let folder = tempfile::tempdir().unwrap();
        Self {
            name,
            account,
            token,
            collector: None,
            emitted: Mutex::default(),
            folder,
            _token_folder: token_folder,
        }
    }

    /// Starts the program with these entries of `remote_write`.
    fn start(&mut self, sts: &Sts, farm: &Farm, external_labels: &str, remote_write: &str) {
        let targets: Vec<_> = farm.addresses().iter().map(|address| format!("'{address}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{{external_labels}}}}}\n\
             scrape_configs:\n- job_name: pods\n  static_configs: [{{targets: [{}]}}]\nremote_write:\n{remote_write}",
            targets.join(", ")
        );
        // Nothing of the machine's own identity and proxies.
        let script = format!(
            "for name in $(env | sed -n 's/^\\(AWS_[A-Z0-9_]*\\|[a-zA-Z]*_[pP][rR][oO][xX][yY]\\)=.*/\\1/p'); do unset \"$name\"; done\n\
             export HOME=/nonexistent AWS_ROLE_ARN={} AWS_WEB_IDENTITY_TOKEN_FILE='{}' AWS_ENDPOINT_URL_STS={} \
             AWS_REGION={REGION} AWS_EC2_METADATA_DISABLED=true\nexec \"$@\"",
            own_role(self.account),
            self.token.path().display(),
            sts.url()
        );
        self.collector = Some(Collector::start_by(self.folder.path(), &config, Some(&script)));
    }

    fn collector(&self) -> &Collector {
        self.collector.as_ref().unwrap()
    }

    /// A metric of one endpoint, summed over its other labels.
    async fn metric(&self, name: &str, endpoint: &str) -> f64 {
        self.collector().metric(name, &format!("remote_name=\"{endpoint}\"")).await
    }

    /// Keeps what its pages show now, and what is in its files.
    async fn look(&self) {
        // It says some things before it listens.
        self.collector().until_ready().await;
        let mut pages = Vec::new();
        for (path, accept) in PAGES {
            let (status, _, page) = self.collector().page(path, accept).await.unwrap();
            assert_eq!(status, 200, "{path}");
            pages.push((format!("{path} as {accept}"), page));
        }
        let mut emitted = self.emitted.lock().unwrap();
        pages.into_iter().for_each(|(name, page)| emitted.add(name, page));
        emitted.add_folder(self.folder.path());
    }

    /// Waits for a line of the log that has all of these.
    async fn until_said(&self, parts: &[&str]) {
        let said = || {
            let log = self.collector().log();
            log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        until(&format!("{} says {parts:?}", self.name), async || said()).await;
        self.look().await;
    }

    /// Ends the program, which delivers what waits, and sees that it has, and that it shows no secret.
    async fn end(&mut self, cloud: &Cloud) -> Collector {
        self.look().await;
        self.collector().assert_balanced().await;
        assert_eq!(self.collector().metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
        let mut collector = self.collector.take().unwrap();
        let stopped = collector.terminate().await;
        assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
        let mut emitted = self.emitted.lock().unwrap();
        emitted.add_folder(self.folder.path());
        emitted.assert_no_secret(&cloud.secrets());
        drop(emitted);
        collector
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("cluster {}:\n{log}", self.name);
        }
    }
}

impl Hub {
    async fn new(way: Way, clusters: &[(&'static str, &'static str)]) -> Self {
        let cloud = scene::cloud().await;
        let sts = Sts::start(&cloud).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(HUB, WORKSPACE, None).await;
        let hub_arn = workspaces.arn(WORKSPACE);
        let mut all = Vec::new();
        for &(name, account) in clusters {
            let permissions = match way {
                Way::Roles => Policy::allowing("sts:AssumeRole", &writer_role(HUB, name)),
                Way::ResourcePolicy => Policy::allowing("aps:RemoteWrite", &hub_arn),
            };
            all.push(Cluster::new(&cloud, name, account, permissions).await);
            if way == Way::Roles {
                let write = Some(Policy::allowing("aps:RemoteWrite", &hub_arn));
                let trust = Policy::role_trust(&own_role(account), Some(&external_id(name)));
                cloud.add_role(&writer_role(HUB, name), trust, write, HOUR).await;
            }
        }
        let farm = Farm::start(TARGETS, SERIES).await.unwrap();
        let hub = Self { way, cloud, sts, workspaces, farm, clusters: all };
        if way == Way::ResourcePolicy {
            hub.share_with(|_| true);
        }
        // Hours, in seconds.
        hub.sts.set_lifetime(Some(Duration::from_secs(15)));
        hub
    }

    /// The workspace's resource policy lets these clusters in.
    fn share_with(&self, is_named: impl Fn(&Cluster) -> bool) {
        let named = self.clusters.iter().filter(|cluster| is_named(cluster));
        let roles: Vec<_> = named.map(|cluster| format!("\"{}\"", own_role(cluster.account))).collect();
        let policy = Policy::parse(&format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "aps:RemoteWrite",
                "Principal": {{"AWS": [{}]}}, "Resource": "{}"}}]}}"#,
            roles.join(", "),
            self.workspaces.arn(WORKSPACE)
        ));
        self.workspaces.set_resource_policy(WORKSPACE, Some(policy.unwrap()));
    }

    fn start(&mut self, external_labels: fn(&str) -> String) {
        for cluster in &mut self.clusters {
            let role = match self.way {
                Way::Roles => chained(HUB, cluster.name),
                Way::ResourcePolicy => String::new(),
            };
            let endpoint = endpoint("hub", &self.workspaces.url(WORKSPACE), &role);
            cluster.start(&self.sts, &self.farm, &external_labels(cluster.name), &endpoint);
        }
    }

    fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.iter().find(|cluster| cluster.name == name).unwrap()
    }

    /// Writes of each account, by whether they were taken, of the requests from this one on.
    fn writes_since(&self, first: usize) -> BTreeMap<(String, bool), usize> {
        let mut writes = BTreeMap::new();
        for write in &self.workspaces.requests()[first..] {
            let is_taken = write.status.is_some_and(|status| status.is_success());
            *writes.entry((write.origin_account.clone().unwrap(), is_taken)).or_default() += 1;
        }
        writes
    }

    /// Waits until each cluster has had so many writes taken from this request on.
    async fn until_all_write(&self, first: usize, times: usize) {
        until("every cluster writes", async || {
            let writes = self.writes_since(first);
            let taken = |cluster: &Cluster| writes.get(&(cluster.account.to_owned(), true)).copied();
            self.clusters.iter().all(|cluster| taken(cluster).unwrap_or_default() >= times)
        })
        .await;
    }

    async fn shut_out(&self, name: &str) {
        match self.way {
            Way::Roles => self.cloud.set_trust(&writer_role(HUB, name), Policy::no_trust()).await,
            Way::ResourcePolicy => self.share_with(|cluster| cluster.name != name),
        }
    }

    async fn let_in(&self, name: &str) {
        match self.way {
            Way::Roles => {
                let trust =
                    Policy::role_trust(&own_role(self.cluster(name).account), Some(&external_id(name)));
                self.cloud.set_trust(&writer_role(HUB, name), trust).await;
            }
            Way::ResourcePolicy => self.share_with(|_| true),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_accounts_write_to_one_workspace_each_by_a_role_of_its_own() {
    three_accounts_of_which_one_is_shut_out_for_a_while(Way::Roles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_accounts_write_to_one_workspace_by_its_resource_policy() {
    three_accounts_of_which_one_is_shut_out_for_a_while(Way::ResourcePolicy).await;
}

const THREE: [(&str, &str); 3] = [("a", "111122223333"), ("b", "222233334444"), ("c", "333344445555")];

async fn three_accounts_of_which_one_is_shut_out_for_a_while(way: Way) {
    let phase = Duration::from_secs(if is_full_tier() { 120 } else { 8 });
    let mut hub = Hub::new(way, &THREE).await;
    hub.sts.set_fault(Fault::Down);
    hub.start(|name| format!("cluster: {name}"));
    // Whoever has nothing to sign with waits, and says so.
    for cluster in &hub.clusters {
        cluster
            .until_said(&["remote_write hub: there is nothing to sign with yet, so everything waits"])
            .await;
    }
    hub.sts.set_fault(Fault::None);
    hub.until_all_write(0, 3).await;
    let sink = hub.workspaces.sink(WORKSPACE);
    let of_three = measure(&[&sink], phase).await.remove(0);

    hub.shut_out("b").await;
    let b = hub.cluster("b");
    match way {
        // A session that it has is good until its end.
        Way::Roles => {
            until("b has no credentials", async || {
                b.metric("promferry_credentials_valid", "hub").await == 0.0
            })
            .await;
            let refused =
                format!("not authorized to perform: sts:AssumeRole on resource: {}", writer_role(HUB, "b"));
            b.until_said(&[&refused, "there are no valid AWS credentials"]).await;
            assert!(b.metric("promferry_credentials_refresh_failures_total", "hub").await >= 1.0);
        }
        Way::ResourcePolicy => {
            b.until_said(&["hub: answered 403", "resource policy", "the data is kept"]).await
        }
    }
    // What was on its way has been answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (first, waited) = (hub.workspaces.requests().len(), b.metric(PENDING, "hub").await);
    let sinks = [&*sink];
    let others = [hub.cluster("a"), hub.cluster("c")].map(|cluster| (cluster, "hub"));
    let (of_two, most) = tokio::join!(measure(&sinks, phase), most_waiting(&others, phase));
    let writes = hub.writes_since(first);
    for (name, account) in THREE {
        let of = |is_taken| writes.get(&(account.to_owned(), is_taken)).copied().unwrap_or_default();
        match name {
            "b" => assert_eq!(of(true), 0, "{writes:?}"),
            _ => assert!(of(true) > 0 && of(false) == 0, "{name}: {writes:?}"),
        }
    }
    eprintln!(
        "{way:?}: {:.0} samples/s of three {:.0} ms late; {:.0} of the two others {:.0} ms late, {most} waiting at most",
        of_three.rate, of_three.delay_ms, of_two[0].rate, of_two[0].delay_ms
    );
    let waits = b.metric(PENDING, "hub").await;
    assert_goes_on_beside(most, waits - waited);

    let first = hub.workspaces.requests().len();
    hub.let_in("b").await;
    let b = hub.cluster("b");
    until("b has delivered what it kept", async || b.metric(PENDING, "hub").await <= SCRAPE).await;
    hub.until_all_write(first, 3).await;
    for cluster in &hub.clusters {
        let session = match way {
            Way::Roles => format!("{HUB}:assumed-role/writer-{}", cluster.name),
            Way::ResourcePolicy => format!("{}:assumed-role/promferry", cluster.account),
        };
        let signs = format!("remote_write hub: signs as arn:aws:sts::{session}/");
        cluster.until_said(&[&signs, ", until "]).await;
        assert!(cluster.metric("promferry_credentials_refreshes_total", "hub").await >= 2.0);
        assert_eq!(cluster.metric("promferry_clock_offset_seconds", "hub").await, 0.0);
    }

    // Each target answers with 503 from now on: what was scraped before has been stored once that is.
    hub.farm.set_asleep(true);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let cloud = hub.cloud.clone();
    let mut ended = Vec::new();
    for cluster in &mut hub.clusters {
        ended.push(cluster.end(&cloud).await);
    }
    // Every target counts its scrapes, whoever scrapes: each has arrived.
    let account = assert_nothing_lost(&hub.farm, &sink, &[], &ended[1]);
    assert!(account.answered as f64 > 3.0 * TARGETS as f64 * phase.as_secs_f64(), "{account:?}");
    // The workspace tells one cluster's failed scrape from another's lost one by its time alone: none may have failed.
    assert_eq!((account.failed, sink.stats().duplicates), (0, 0), "{account:?}");

    let refused: BTreeSet<_> = hub.writes_since(0).into_keys().filter(|(_, is_taken)| !is_taken).collect();
    let b = (hub.cluster("b").account.to_owned(), false);
    assert!(refused.is_subset(&BTreeSet::from([b])), "only one was ever refused: {refused:?}");
    assert_no_series_of_two(&hub);
}

const PENDING: &str = "prometheus_remote_storage_samples_pending";

/// The most samples that waited for one of these endpoints of these clusters, looked at all this time.
async fn most_waiting(endpoints: &[(&Cluster, &str)], during: Duration) -> f64 {
    let (began, mut most) = (Instant::now(), 0.0);
    while began.elapsed() < during {
        for (cluster, endpoint) in endpoints {
            most = f64::max(most, cluster.metric(PENDING, endpoint).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    most
}

/// While one gathered what it may not write, the others had no more than a scrape or so under way at any time.
fn assert_goes_on_beside(most_of_others: f64, gathered: f64) {
    // Counts, not times: on a busy machine fewer scrapes are made, and each of them is written all the same.
    assert!(gathered >= 3.0 * SCRAPE, "only {gathered} samples were kept");
    assert!(most_of_others <= 3.0 * SCRAPE, "{most_of_others} samples of the others waited at once");
}

/// Each series was written by one account, though all wrote the same ones but for their label.
fn assert_no_series_of_two(hub: &Hub) {
    let mut pods: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    for (mut labels, accounts) in hub.workspaces.writers_of(WORKSPACE) {
        let cluster = labels.remove("cluster").unwrap_or_default();
        let account = hub.cluster(&cluster).account;
        assert_eq!(accounts, BTreeSet::from([account.to_owned()]), "{cluster}: {labels:?}");
        pods.entry(cluster).or_default().insert(labels);
    }
    assert_eq!(pods.len(), hub.clusters.len());
    for (cluster, series) in &pods {
        assert!(series.len() >= TARGETS * SERIES, "{cluster}");
        assert_eq!(series, &pods["a"], "{cluster}: the pods have the same addresses everywhere");
    }
}

/// What the labels are for, and that the check above would find it.
#[tokio::test(flavor = "multi_thread")]
async fn without_external_labels_two_accounts_would_write_one_series() {
    for way in [Way::Roles, Way::ResourcePolicy] {
        let mut hub = Hub::new(way, &THREE[..2]).await;
        hub.start(|_| String::new());
        for cluster in &hub.clusters {
            let said = match way {
                Way::Roles => [" WARN ", "through a role of account 999988887777"],
                Way::ResourcePolicy => [" INFO ", "by its resource policy"],
            };
            let label =
                ["no external label tells this cluster from others", "set global.external_labels.cluster"];
            cluster.until_said(&[&said[..], &label[..]].concat()).await;
        }
        hub.until_all_write(0, 2).await;
        let cloud = hub.cloud.clone();
        for cluster in &mut hub.clusters {
            cluster.end(&cloud).await;
        }
        let written = hub.workspaces.writers_of(WORKSPACE);
        assert!(written.len() >= TARGETS * SERIES);
        assert!(written.values().all(|accounts| accounts.len() == 2), "{written:?}");
    }
}

/// What can be known of a file alone is said before anything runs.
#[test]
fn a_file_is_judged_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let check = |host: &str, sigv4: &str| {
        let file = folder.path().join("prometheus.yml");
        std::fs::write(
            &file,
            format!("remote_write:\n- url: https://{host}/api/v1/remote_write\n  sigv4: {{{sigv4}}}\n"),
        )
        .unwrap();
        let mut check = std::process::Command::new(program());
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN"] {
            check.env_remove(name);
        }
        let output = check.args(["check", "config"]).arg(file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let role = "role_arn: 'arn:aws:iam::999988887777:role/writer'";
    let (code, said) = check("vpce-0a1b.aps-workspaces.eu-west-1.vpce.amazonaws.com", role);
    assert_eq!(code, Some(1));
    assert!(said.contains("prometheus.yml:3:10: cannot tell the AWS region"), "{said}");
    assert!(said.contains("set sigv4.region and sigv4.service_name"), "{said}");
    let (code, said) = check("aps-workspaces.eu-west-1.amazonaws.com", role);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("warning: ") && said.contains(":3:21: no external label"), "{said}");
    assert_eq!(check("aps-workspaces.eu-west-1.amazonaws.com", ""), (Some(0), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_collector_writes_to_three_workspaces_by_three_roles_of_which_one_fails() {
    let phase = Duration::from_secs(if is_full_tier() { 120 } else { 8 });
    let cloud = scene::cloud().await;
    let sts = Sts::start(&cloud).await;
    let workspaces = Workspaces::start(&cloud, REGION).await;
    let own = "444455556666";
    let permissions = Policy::allowing("sts:AssumeRole", "arn:aws:iam::*:role/writer-*");
    let mut cluster = Cluster::new(&cloud, "own", own, permissions).await;
    let farm = Farm::start(TARGETS, SERIES).await.unwrap();
    let trust = |name: &str| Policy::role_trust(&own_role(own), Some(&external_id(name)));
    let mut remote_write = String::new();
    for (name, account) in THREE {
        let workspace = format!("ws-{name}");
        workspaces.add(account, &workspace, None).await;
        let write = Some(Policy::allowing("aps:RemoteWrite", &workspaces.arn(&workspace)));
        cloud.add_role(&writer_role(account, name), trust(name), write, HOUR).await;
        remote_write.push_str(&endpoint(name, &workspaces.url(&workspace), &chained(account, name)));
    }
    sts.set_lifetime(Some(Duration::from_secs(15)));
    cluster.start(&sts, &farm, "cluster: own", &remote_write);
    let sinks = THREE.map(|(name, _)| workspaces.sink(&format!("ws-{name}")));
    let [a, b, c] = &sinks;
    until("all three have samples", async || sinks.iter().all(|sink| sink.stats().samples > 0)).await;
    let healthy = [&**a, &**c];
    let quiet = measure(&healthy, phase).await;

    let failing = writer_role("222233334444", "b");
    cloud.set_trust(&failing, Policy::no_trust()).await;
    cloud.expire_sessions(&failing);
    until("b has no credentials", async || cluster.metric("promferry_credentials_valid", "b").await == 0.0)
        .await;
    let (arrived, refused) = (b.stats().samples, workspaces.requests().len());
    let waited = cluster.metric(PENDING, "b").await;
    let others = ["a", "c"].map(|name| (&cluster, name));
    let (beside_failing, most) = tokio::join!(measure(&healthy, phase), most_waiting(&others, phase));
    assert_eq!(b.stats().samples, arrived);
    for (before, during) in quiet.iter().zip(&beside_failing) {
        eprintln!(
            "{:.0} samples/s {:.0} ms late; beside a failing one {:.0} samples/s {:.0} ms late",
            before.rate, before.delay_ms, during.rate, during.delay_ms
        );
    }
    assert_goes_on_beside(most, cluster.metric(PENDING, "b").await - waited);
    for (name, is_valid) in [("a", 1.0), ("b", 0.0), ("c", 1.0)] {
        assert_eq!(cluster.metric("promferry_credentials_valid", name).await, is_valid, "{name}");
    }
    assert!(
        workspaces.requests()[refused..]
            .iter()
            .all(|write| write.status.is_some_and(|status| status.is_success()))
    );
    let page = cluster.collector().text("/").await;
    assert!(page.contains("<h2>Signing</h2>") && page.contains("sts:AssumeRole"), "{page}");

    cloud.set_trust(&failing, trust("b")).await;
    until("b has delivered what it kept", async || cluster.metric(PENDING, "b").await <= SCRAPE).await;
    farm.set_asleep(true);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let collector = cluster.end(&cloud).await;
    for ((name, account), sink) in THREE.iter().zip(&sinks) {
        assert_nothing_lost(&farm, sink, &[], &collector);
        assert_eq!(sink.stats().duplicates, 0, "{name}");
        let arn = format!("signs as arn:aws:sts::{account}:assumed-role/writer-{name}/");
        assert!(collector.log().contains(&format!("remote_write {name}: {arn}")), "{}", collector.log());
    }
}

/// The role of a cluster's service account.
fn own_role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/promferry")
}

/// The role that a cluster assumes to write.
fn writer_role(account: &str, cluster: &str) -> String {
    format!("arn:aws:iam::{account}:role/writer-{cluster}")
}

fn external_id(cluster: &str) -> String {
    format!("cluster-{cluster}")
}

fn chained(account: &str, cluster: &str) -> String {
    format!(", role_arn: '{}', external_id: {}", writer_role(account, cluster), external_id(cluster))
}

fn endpoint(name: &str, url: &str, role: &str) -> String {
    format!(
        "- name: {name}\n  url: {url}\n  sigv4: {{region: {REGION}{role}}}\n  \
         queue_config: {{batch_send_deadline: 500ms, max_backoff: 1s}}\n"
    )
}
