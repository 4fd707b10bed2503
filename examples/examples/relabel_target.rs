//! Sends a target through relabelling rules as they stand in a configuration and says what each rule did:
//! `cargo run -p promferry-examples --example relabel_target`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;

use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::{RelabelConfig, RelabelRules};

/// Scrapes go through a gateway that has the target's address in its path.
const RULES: &str = r"
- {source_labels: [__address__], target_label: instance}
- source_labels: [__address__]
  regex: ([^:]+):(\d+)
  replacement: /node/$1/$2/metrics
  target_label: __metrics_path__
- {target_label: __address__, replacement: gateway.example.com:443}
- {source_labels: [env], regex: prod|staging, action: keep}
";

fn main() -> Result<(), Box<dyn Error>> {
    let configs: Vec<RelabelConfig> = serde_saphyr::from_str(RULES)?;
    let rules = RelabelRules::compile(&configs, NameValidation::Utf8)?;
    for env in ["prod", "test"] {
        let target = Labels::from_pairs([("__address__", "10.0.0.7:8080"), ("env", env)]);
        println!("{target}");
        let mut labels = LabelsBuilder::from(&target);
        let explanation = rules.explain(&mut labels);
        for step in &explanation.steps {
            for change in &step.changes {
                println!("  {}: {} {:?} -> {:?}", step.name, change.label, change.before, change.after);
            }
        }
        match explanation.dropped_by() {
            Some(step) => println!("  dropped by {}", step.name),
            None => println!("  {}", labels.to_labels()),
        }
    }
    Ok(())
}
