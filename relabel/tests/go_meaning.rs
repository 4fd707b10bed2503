//! Compares regular expressions, templates, case mapping and whole rules with what Go and Prometheus 3.16 made
//! of the same inputs. `tests/data/generate` wrote the tables.

use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::{Action, RelabelConfig, RelabelRules};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct RegexCase {
    regex: String,
    input: String,
    template: String,
    /// The expanded template; none where the expression does not match.
    output: Option<String>,
    /// What Go's `ReplaceAllString` gives.
    all: Option<String>,
    error: Option<String>,
}

fn rules(config: RelabelConfig) -> Result<RelabelRules, promferry_relabel::ConfigError> {
    RelabelRules::compile(&[config], NameValidation::Utf8)
}

/// What is wrong with our answer, if anything.
fn disagreement(case: &RegexCase) -> Option<String> {
    let config = RelabelConfig {
        source_labels: vec!["in".into()],
        target_label: "out".into(),
        regex: Some(case.regex.as_str().into()),
        replacement: case.template.as_str().into(),
        ..RelabelConfig::default()
    };
    let compiled = match (rules(config.clone()), &case.error) {
        (Ok(compiled), None) => compiled,
        (Err(_), Some(_)) => return None,
        (Ok(_), Some(error)) => return Some(format!("accepted, Go says {error}")),
        (Err(error), None) => return Some(format!("refused: {error}")),
    };
    let mut labels =
        LabelsBuilder::from(&Labels::from_pairs([("in", case.input.as_str()), ("out", "no match")]));
    compiled.apply(&mut labels);
    let expected = case.output.as_deref().unwrap_or("no match");
    if labels.get("out") != expected {
        return Some(format!("gives {:?}, Go {expected:?}", labels.get("out")));
    }
    let all = case.all.as_deref().filter(|all| !all.is_empty() && !case.input.is_empty())?;
    let compiled = rules(RelabelConfig { action: Action::LabelMap, source_labels: vec![], ..config });
    let mut labels = LabelsBuilder::from(&Labels::from_pairs([(case.input.as_str(), "v")]));
    compiled.ok()?.apply(&mut labels);
    (!labels.has(all)).then(|| format!("labelmap gives {labels}, Go {all:?}"))
}

fn compare(cases: impl Iterator<Item = RegexCase>) -> (usize, Vec<String>) {
    let mut count = 0;
    let mut wrong = Vec::new();
    for case in cases {
        count += 1;
        if let Some(difference) = disagreement(&case) {
            wrong
                .push(format!("{:?} on {:?} with {:?}: {difference}", case.regex, case.input, case.template));
        }
    }
    (count, wrong)
}

fn lines<T: for<'de> Deserialize<'de>>(text: &str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
}

#[test]
fn expressions_and_templates_mean_what_they_mean_in_go() {
    let (count, wrong) = compare(lines(include_str!("data/go-regex.jsonl")));
    assert_eq!(count, 1500);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// For a longer comparison than the checked-in table: `GO_REGEX_CASES` names a file that the generator wrote.
#[test]
fn a_longer_table_where_there_is_one() {
    let Ok(path) = std::env::var("GO_REGEX_CASES") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let (count, wrong) = compare(lines(&text));
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn hand_picked_traps() {
    #[derive(Deserialize)]
    struct Trap {
        #[serde(rename = "Re")]
        regex: String,
        #[serde(rename = "In")]
        input: String,
        #[serde(rename = "Tpl")]
        template: String,
        go: String,
    }
    let traps: Vec<Trap> = lines(include_str!("data/go-traps.jsonl")).collect();
    assert_eq!(traps.len(), 97);
    let cases = traps.into_iter().map(|trap| {
        let constant = if trap.template == "m" { "m".to_owned() } else { trap.template };
        let output =
            (trap.go != "ERR" && trap.go != "NOMATCH").then(|| serde_json::from_str(&trap.go).unwrap());
        let error = (trap.go == "ERR").then(|| "refused".to_owned());
        RegexCase { regex: trap.regex, input: trap.input, template: constant, output, all: None, error }
    });
    let (_, wrong) = compare(cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_character_changes_case_as_in_go() {
    #[derive(Deserialize)]
    struct CaseTable {
        from: String,
        lower: String,
        upper: String,
    }
    let table: CaseTable = serde_json::from_str(include_str!("data/go-case.json")).unwrap();
    let mapped = |action, text: char| {
        let config = RelabelConfig {
            source_labels: vec!["in".into()],
            target_label: "out".into(),
            action,
            ..RelabelConfig::default()
        };
        let mut labels = LabelsBuilder::from(&Labels::from_pairs([("in", text.to_string())]));
        rules(config).unwrap().apply(&mut labels);
        labels.get("out").to_owned()
    };
    assert!(table.from.chars().count() > 2700);
    for ((from, lower), upper) in table.from.chars().zip(table.lower.chars()).zip(table.upper.chars()) {
        assert_eq!(mapped(Action::Lowercase, from), lower.to_string(), "{from:?}");
        assert_eq!(mapped(Action::Uppercase, from), upper.to_string(), "{from:?}");
    }
}

#[derive(Deserialize)]
struct RuleCase {
    note: String,
    #[serde(default)]
    legacy: bool,
    labels: BTreeMap<String, String>,
    rules: Vec<RelabelConfig>,
    kept: Option<bool>,
    #[serde(default)]
    output: BTreeMap<String, String>,
    error: Option<String>,
}

#[test]
fn rules_do_what_they_do_in_prometheus() {
    let cases: Vec<RuleCase> = lines(include_str!("data/rules.jsonl")).collect();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let validation = if case.legacy { NameValidation::Legacy } else { NameValidation::Utf8 };
        let compiled = RelabelRules::compile(&case.rules, validation);
        if let Some(error) = case.error {
            assert!(compiled.is_err(), "{}: accepted, Prometheus says {error}", case.note);
            continue;
        }
        let compiled = compiled.unwrap_or_else(|error| panic!("{}: {error}", case.note));
        let mut labels = LabelsBuilder::from(&Labels::from_pairs(case.labels));
        let mut explained = labels.clone();
        assert_eq!(Some(compiled.apply(&mut labels)), case.kept, "{}", case.note);
        let explanation = compiled.explain(&mut explained);
        assert_eq!((Some(explanation.kept), &explained), (case.kept, &labels), "{}", case.note);
        if case.kept == Some(true) {
            assert_eq!(labels.to_labels(), Labels::from_pairs(case.output), "{}", case.note);
        }
    }
}
