//! Several who would write one series: what leaves, counted where it arrives.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use promferry_remote_write::wire;
use tokio::net::TcpListener;

use crate::collector::{Collector, until};

/// By path and labels: how often each timestamp came, and the values.
type Samples = BTreeMap<(String, String), HashMap<i64, Vec<f64>>>;

#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    samples: Arc<Mutex<Samples>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), samples: Arc::default() };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = accepting.clone();
                let service = service_fn(move |request| receiver.clone().take(request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message = wire::decode_v1(&body, 64 << 20).unwrap();
        let mut samples = self.samples.lock().unwrap();
        for series in message.timeseries {
            let labels: Vec<_> =
                series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
            let known = samples.entry((path.clone(), labels.join(","))).or_default();
            for sample in series.samples {
                known.entry(sample.timestamp).or_default().push(sample.value);
            }
        }
        Ok(Response::new(Full::default()))
    }

    /// The series of a path that hold `text`, with their samples.
    fn series(&self, path: &str, text: &str) -> Vec<(String, HashMap<i64, Vec<f64>>)> {
        let samples = self.samples.lock().unwrap();
        let of = samples.iter().filter(|((of, labels), _)| of == path && labels.contains(text));
        of.map(|((_, labels), samples)| (labels.clone(), samples.clone())).collect()
    }
}

/// What both targets show. `shared` is of another instance's name, `up` is the name of what the scrape itself
/// reports, `spelled` stands there in two spellings, and `carrying` has the external label or gets it.
const PAGE: &str = "shared{job=\"x\",instance=\"y\"} 1\nup 5\nup{job=\"x\",instance=\"y\"} 6\n\
                    spelled{a=\"1\",b=\"2\"} 1\nspelled{ b=\"2\" , a=\"1\" } 2\n\
                    carrying{cluster=\"test\"} 1\ncarrying 2\nalone 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_series_leaves_twice_with_one_timestamp() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let page = || Page::text(PAGE);
    let (a, b) = (ScriptedTarget::start(page()).await.unwrap(), ScriptedTarget::start(page()).await.unwrap());
    let file = folder.path().join("targets.json");
    let targets = |list: &[&ScriptedTarget]| {
        let list: Vec<_> = list.iter().map(|target| target.address().to_string()).collect();
        let new = folder.path().join("targets.new");
        std::fs::write(&new, serde_json::json!([{ "targets": list }]).to_string()).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    targets(&[&a, &b]);
    let config = format!(
        "global: {{scrape_interval: 300ms, scrape_timeout: 300ms, external_labels: {{cluster: test}}}}\n\
         scrape_configs:\n- job_name: twins\n  honor_labels: true\n  \
         file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]\n\
         remote_write:\n\
         - {{name: all, url: 'http://{1}/all', queue_config: {{batch_send_deadline: 200ms}}}}\n\
         - name: merged\n  url: http://{1}/merged\n  queue_config: {{batch_send_deadline: 200ms}}\n  \
         write_relabel_configs: [{{regex: instance, action: labeldrop}}]\n",
        file.display(),
        receiver.address
    );
    let mut collector = Collector::start(folder.path(), &config);
    let arrived =
        |path, text: &str| receiver.series(path, text).iter().map(|(_, s)| s.len()).max().unwrap_or(0);
    until("several scrapes arrived", async || {
        arrived("/all", "alone") >= 8 && arrived("/merged", "__name__=alone") >= 8
    })
    .await;
    // Of each target's own series all arrive where the instance is kept, one of two where it is not.
    assert_eq!(receiver.series("/all", "__name__=alone").len(), 2);
    assert_eq!(receiver.series("/merged", "__name__=alone").len(), 1);
    // The page's `up` wins over the scrape's, as in Prometheus.
    for target in [&a, &b] {
        let up = receiver.series("/all", &format!("__name__=up,cluster=test,instance={}", target.address()));
        let [(_, samples)] = &up[..] else { panic!("{up:?}") };
        assert!(samples.values().flatten().all(|value| *value == 5.0), "{samples:?}");
    }
    let carrying = receiver.series("/all", "carrying");
    assert_eq!(carrying.len(), 2, "one a target: {carrying:?}");
    assert!(carrying.iter().all(|(_, samples)| samples.values().flatten().all(|value| *value == 1.0)));
    let count = async |name, label: &str| collector.metric(name, label).await;
    let refused = "promferry_samples_refused_total";
    assert!(count(refused, "owned_by_other_target").await > 0.0, "shared and up of y");
    let dropped = "prometheus_remote_storage_samples_dropped_total";
    assert!(count(dropped, r#"remote_name="all",url="http"#).await > 0.0, "carrying");
    let duplicates = r#"reason="duplicate_series""#;
    assert!(count(dropped, duplicates).await > 0.0);
    assert!(count("promferry_remote_duplicate_series", r#"remote_name="merged""#).await > 1.0);
    assert!(count("prometheus_target_scrapes_sample_duplicate_timestamp_total", "").await > 0.0, "spelled");
    collector.assert_balanced().await;
    let log = collector.log();
    assert!(log.contains("already written by target") && log.contains("that was there first"), "{log}");
    assert!(collector.text("/status").await.contains("Series with the same labels"));

    // Whoever came first goes: the other one takes over what it could not write.
    let first = log.lines().find(|line| line.contains("that was there first")).unwrap();
    let stays = if first.contains(&format!("series of http://{}", a.address())) { &b } else { &a };
    let before = arrived("/merged", "__name__=alone");
    targets(&[stays]);
    until("the other one writes the series", async || {
        collector.metric("promferry_targets", "").await == 1.0
            && collector.metric("promferry_remote_duplicate_series", r#"remote_name="merged""#).await <= 1.0
            && arrived("/merged", "__name__=alone") > before + 8
    })
    .await;
    collector.terminate().await;
    let samples = receiver.samples.lock().unwrap();
    assert!(samples.len() > 10);
    for ((path, series), timestamps) in samples.iter() {
        for (timestamp, values) in timestamps {
            assert_eq!(values.len(), 1, "{path} {series} at {timestamp}: {values:?}");
        }
    }
}
