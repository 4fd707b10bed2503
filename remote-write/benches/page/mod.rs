//! The page that the benches encode.
#![allow(dead_code, reason = "each bench uses its part")]

use std::sync::Arc;
use std::time::Duration;

use promferry_model::{
    Label, Labels, MemoryBudget, MetadataView, MetricType, Sample, SeriesId, SeriesView, TargetInfo,
    Timestamp,
};
use promferry_remote_write::encode::{EncodingContext, Profile, Profiles, TargetEncoder};
use promferry_remote_write::{Fragment, Protocol};

pub(crate) const SERIES: usize = 1000;
pub(crate) const AT: i64 = 1_700_000_000_000;

/// The label that the endpoint's profile adds.
pub(crate) const EXTERNAL_LABEL: (&str, &str) = ("cluster", "eu-1");

/// What the page says about all of its series.
pub(crate) const METADATA: MetadataView<'_> = MetadataView {
    family: "http_server_duration_seconds",
    metric_type: MetricType::Histogram,
    unit: "seconds",
    help: "How long requests took until they were answered.",
};

/// A page of a Kubernetes target: [`SERIES`] series of 11 labels, and the external one.
pub(crate) struct Page {
    pub(crate) encoder: TargetEncoder,
    pub(crate) ids: Vec<SeriesId>,
    pub(crate) labels: Vec<Labels>,
}

/// The page of target number `target`, which has been scraped once.
pub(crate) fn page(protocol: Protocol, target: u8) -> Page {
    let instance = format!("10.0.12.{target}:8080");
    let target = Labels::from_pairs([
        ("app", "checkout-service"),
        ("container", "checkout"),
        ("instance", instance.as_str()),
        ("job", "kubernetes-pods"),
        ("namespace", "shop-production"),
        ("node", "ip-10-0-12-34.eu-central-1.compute.internal"),
        ("pod", "checkout-service-5d8f9c7b6d-x2x4z"),
    ]);
    let info = TargetInfo {
        job: "kubernetes-pods".into(),
        labels: target.clone(),
        url: format!("http://{instance}/metrics"),
        scrape_interval: Duration::from_secs(15),
    };
    let labels: Vec<Labels> = (0..SERIES)
        .map(|n| {
            let own = [
                ("__name__".to_owned(), format!("http_server_{}_duration_seconds_bucket", n / 240)),
                ("code".to_owned(), ["200", "201", "400", "404", "500"][n / 48 % 5].to_owned()),
                ("le".to_owned(), format!("{}", (n % 12) as f64 / 8.0)),
                ("method".to_owned(), ["GET", "POST", "PUT", "DELETE"][n / 12 % 4].to_owned()),
            ];
            let shared = target.iter().map(|Label { name, value }| (name.to_string(), value.to_string()));
            Labels::from_pairs(shared.chain(own))
        })
        .collect();
    let profile =
        Profile { external_labels: Labels::from_pairs([EXTERNAL_LABEL]), protocol, ..Profile::default() };
    let profiles = Arc::new(Profiles::new(1, vec![Arc::new(profile)]));
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let mut encoder = TargetEncoder::new(&info, profiles, context);
    let ids: Vec<_> = labels
        .iter()
        .map(|labels| encoder.admit(&SeriesView { labels, metadata: METADATA }).expect("room"))
        .collect();
    let mut page = Page { encoder, ids, labels };
    // The first page is written another way.
    page.encode();
    page
}

impl Page {
    pub(crate) fn encode(&mut self) -> Vec<Fragment> {
        self.encoder.begin();
        self.samples();
        self.encoder.finish().expect("room").profiles.swap_remove(0).fragments
    }

    pub(crate) fn samples(&mut self) {
        for (n, &id) in self.ids.iter().enumerate() {
            self.encoder.sample(id, Sample::new(Timestamp::from_millis(AT), n as f64));
        }
    }
}
