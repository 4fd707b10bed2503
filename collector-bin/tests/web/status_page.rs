//! What the status page says.

use std::fmt::Write as _;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::process::free_address;
use promferry_bench::sink::{Fault, Sink};
use regex::Regex;

use crate::collector::{Collector, config, until};

/// The sentence at the top.
fn sentence(page: &str) -> String {
    let found = Regex::new(r#"<p class="standing (?:well|bad)">([^<]*)</p>"#).unwrap();
    found.captures(page).unwrap_or_else(|| panic!("{page}"))[1].to_owned()
}

/// The boxes of the flow: name and number.
fn flow(page: &str) -> Vec<(String, String)> {
    let boxes = Regex::new(r"<li[^>]*>([^<]*)<b>([^<]*)</b>").unwrap();
    boxes.captures_iter(page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

async fn until_it_says(collector: &Collector, path: &str, what: &str) -> String {
    until(what, async || collector.text(path).await.contains(what)).await;
    collector.text(path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_in_a_sentence_and_a_row_of_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(3, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let script = "exec \"$@\" --web.route-prefix=/prom --web.page-title='A <b>title</b>'";
    let config = config(farm.addresses(), &sink, "500ms");
    let collector = Collector::start_by(folder.path(), &config, Some(script));
    let said = "All is well: all 3 targets are up, and what they expose is delivered.";
    let page = until_it_says(&collector, "/prom/", said).await;
    assert_eq!(sentence(&page), said);
    let flow = flow(&page);
    let names: Vec<_> = flow.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["discovered", "kept", "up", "samples a second", "waiting", "delivered", "refused"]);
    let numbers: Vec<u64> = flow.iter().map(|(_, number)| number.replace(',', "").parse().unwrap()).collect();
    assert_eq!(numbers[..3], [3, 3, 3]);
    assert!(numbers[5] > 0 && numbers[6] == 0, "{flow:?}");

    assert!(page.contains("<title>A &lt;b&gt;title&lt;/b&gt;</title>"), "{page}");
    // Nothing is asked of anybody else, and nothing runs.
    assert!(page.contains(r#"<link rel="icon" href="data:,">"#) && !page.contains("<script"), "{page}");
    assert!(page.contains("name=\"viewport\"") && page.contains("color-scheme:light dark"), "{page}");
    // Every link is relative, and holds below the prefix.
    let links = Regex::new(r#"(?:href|src)="([^"]*)""#).unwrap();
    let links: Vec<_> = links.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    assert!(links.len() > 4, "{links:?}");
    for link in links.iter().filter(|link| *link != "data:,") {
        let link = link.split('#').next().unwrap().replace("&amp;", "&");
        assert!(!link.starts_with('/') && !link.contains("://"), "{link}");
        assert_eq!(collector.page(&format!("/prom/{link}"), "*/*").await.unwrap().0, 200, "{link}");
    }
    assert!(page.contains("prometheus.yml") && page.contains("<h2>Configuration</h2>"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_says_why_and_its_labels_are_no_markup() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(2, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let gone = free_address().unwrap();
    let job = format!(
        "- job_name: '<i>gone</i>'\n  static_configs: [{{targets: ['{gone}'], labels: {{note: '<script>x</script>'}}}}]\n\
         remote_write:"
    );
    let config = config(farm.addresses(), &sink, "500ms").replace("remote_write:", &job);
    let collector = Collector::start(folder.path(), &config);
    let page = until_it_says(&collector, "/", "1 of 3 targets is down").await;
    let said = sentence(&page);
    assert!(said.starts_with("1 of 3 targets is down (connection refused)"), "{said}");
    let row =
        Regex::new(&format!(r#"<tr>(?:<td[^>]*>[^<]*</td>)*<td[^>]*>http://{gone}/metrics</td>.*?</tr>"#))
            .unwrap();
    let row = row.find(&page).unwrap_or_else(|| panic!("{page}")).as_str();
    assert!(row.contains(">down<") && row.contains("onnection refused"), "{row}");
    assert!(row.contains("note=&quot;&lt;script&gt;x&lt;/script&gt;&quot;"), "{row}");
    assert!(!page.contains("<script") && !page.contains("<i>"), "{page}");
    // It comes first, and alone where only those that are down are asked for.
    let targets = |page: &str| {
        let cells = Regex::new(r#"<td data-of="target">([^<]*)</td>"#).unwrap();
        cells.captures_iter(page).map(|found| found[1].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((targets(&page).len(), &targets(&page)[0]), (3, &format!("http://{gone}/metrics")));
    assert_eq!(targets(&collector.text("/?state=down").await), [format!("http://{gone}/metrics")]);
    assert_eq!(targets(&collector.text("/?job=farm&state=up").await).len(), 2);
    assert!(targets(&collector.text("/?job=farm&state=down").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_targets_it_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let text = "scrape_configs:\n- job_name: pods\n  static_configs: [{targets: ['a:1', 'b:1']}]\n  relabel_configs:\n  \
                - {source_labels: [__meta_x], regex: 'true', action: keep}\n- job_name: files\n  file_sd_configs: \
                [{files: [none/*.yml]}]\n- job_name: none\n";
    let collector = Collector::start(folder.path(), text);
    let page = until_it_says(&collector, "/", "2 dropped by relabel_configs[0]").await;
    let said = sentence(&page);
    assert!(said.starts_with("Nothing is scraped, for there are no targets: "), "{said}");
    assert!(said.contains("(and 2 more jobs)"), "{said}");
    assert!(page.contains("keep") && page.contains("__meta_x"), "{page}");
    assert!(page.contains("file discovery has found nothing"), "{page}");
    assert!(page.contains("the job has no service discovery"), "{page}");
    drop(collector);

    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path(), "scrape_configs: []\n");
    let said = "Nothing is scraped: the configuration has no scrape_configs.";
    assert_eq!(sentence(&until_it_says(&collector, "/", said).await), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_nothing_is_in_the_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let mut config = config(farm.addresses(), &sink, "500ms");
    config.push_str("  name: amp\n");
    sink.set_fault(Some(Fault { status: Some(503), ..Fault::default() }));
    let collector = Collector::start(folder.path(), &config);
    let page = until_it_says(&collector, "/", "Amp has taken nothing yet: ").await;
    assert!(sentence(&page).contains("503"), "{}", sentence(&page));
    sink.set_fault(None);
    until_it_says(&collector, "/", "All is well: the target is up, and what").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_farm_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "global: {scrape_interval: 10m}\nscrape_configs:\n".to_owned();
    // Ports could not tell so many apart; this machine's addresses do.
    for (job, network, targets) in [("small", 1, 300), ("large", 2, 2000)] {
        let targets: Vec<_> = (0..targets)
            .map(|target| format!("'127.{network}.{}.{}:1'", target / 256, target % 256))
            .collect();
        let _ =
            writeln!(text, "- job_name: {job}\n  static_configs: [{{targets: [{}]}}]", targets.join(", "));
    }
    let collector = Collector::start(folder.path(), &text);
    let page =
        until_it_says(&collector, "/", "Shown are 200 of 2,300 targets, those that are down first").await;
    assert!(page.len() < 200_000, "{}", page.len());
    assert_eq!(page.matches("<td data-of=\"target\">").count(), 200);
    until_it_says(&collector, "/?job=small", "Shown are 200 of 300 targets of small, those").await;
    let page = collector.text("/?job=none").await;
    assert!(page.contains("0 targets of none."), "{page}");
}
