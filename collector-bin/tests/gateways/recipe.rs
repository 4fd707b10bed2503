//! The files of `examples/`, as they are there.

use std::fs;
use std::path::Path;

/// A file below `examples/`.
pub(crate) fn example(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// `examples/gateways/NAME.yml` with another receiver, its scrapes this often, and these texts in place of others, which
/// are in it.
pub(crate) fn recipe(name: &str, interval: &str, changes: &[(&str, &str)], receiver: &str) -> String {
    let text = example(&format!("gateways/{name}.yml"));
    let (scraping, writing) = text.split_once("\nremote_write:").unwrap();
    assert!(!writing.contains("scrape_configs:"), "{name}: what is scraped has to come before remote_write");
    let mut scraping: String = scraping
        .lines()
        .map(|line| match line.trim_start().split_once(": ") {
            Some(("scrape_interval", _)) => format!("  scrape_interval: {interval}\n"),
            Some(("scrape_timeout", _)) => format!("  scrape_timeout: {interval}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    for (from, to) in changes {
        assert!(scraping.contains(from), "{name} has no {from:?}");
        scraping = scraping.replace(from, to);
    }
    format!(
        "{scraping}\nremote_write:\n- url: {receiver}\n  queue_config: {{batch_send_deadline: 500ms}}\n  \
         write_relabel_configs: [{{target_label: recipe, replacement: {name}}}]\n"
    )
}
