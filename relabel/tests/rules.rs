//! Rules as they are read, refused and explained.

use promferry_model::{Labels, LabelsBuilder, MetadataView, NameValidation, SeriesContext, Stage, Verdict};
use promferry_relabel::{Action, RelabelConfig, RelabelRules};
use proptest::prelude::*;

fn read(json: &str) -> Result<RelabelConfig, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn keys_left_out_and_null() {
    assert_eq!(read("{}").unwrap(), RelabelConfig::default());
    let config = read(r#"{"regex": null, "source_labels": null, "target_label": null}"#).unwrap();
    assert_eq!(config.regex.as_deref(), Some(""));
    assert_eq!(config.source_labels.len(), 0);
    assert_eq!(read(r#"{"action": "LabelDrop"}"#).unwrap().action, Action::LabelDrop);
    for (json, expected) in [
        (r#"{"action": "remove"}"#, "unknown relabel action \"remove\""),
        (r#"{"action": null}"#, "action cannot be empty"),
        (r#"{"actoin": "keep"}"#, "unknown field `actoin`"),
        (r#"{"source_labels": [""]}"#, "empty"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn errors_say_where() {
    for (json, path, message) in [
        (r#"{"regex": "(a", "target_label": "x"}"#, "regex", "missing closing )"),
        (r#"{"regex": "a{1001}", "target_label": "x"}"#, "regex", "invalid repeat count: {1001}"),
        (r#"{"regex": "(\\pL{900}){1,1}\\pL{999}\\pN{999}", "action": "drop"}"#, "regex", "size limit"),
        (r#"{"action": "hashmod", "target_label": "x"}"#, "modulus", "not zero"),
        (r#"{"action": "labeldrop", "separator": ","}"#, "separator", "labeldrop takes only regex"),
        (r#"{}"#, "target_label", "replace needs a target_label"),
    ] {
        let configs =
            [RelabelConfig { action: Action::Keep, ..RelabelConfig::default() }, read(json).unwrap()];
        let error = RelabelRules::compile(&configs, NameValidation::Utf8).unwrap_err();
        assert_eq!(error.path, ["1", path], "{error}");
        assert!(error.message.contains(message), "{error}");
        let alone = configs[1].validate(NameValidation::Utf8).unwrap_err();
        assert_eq!((alone.path, alone.message), (vec![path.to_owned()], error.message));
    }
}

#[test]
fn hostile_expressions_are_refused_in_bounded_time() {
    for regex in
        ["(".repeat(100_000), format!("{}{}", "(".repeat(5000), ")".repeat(5000)), "a|".repeat(100_000)]
    {
        let config =
            RelabelConfig { regex: Some(regex.into()), action: Action::Keep, ..RelabelConfig::default() };
        let _ = config.validate(NameValidation::Utf8);
    }
}

#[test]
fn an_explanation_names_the_rule() {
    let configs = [
        read(r#"{"source_labels": ["a"], "target_label": "b"}"#).unwrap(),
        read(r#"{"regex": "a", "action": "labeldrop"}"#).unwrap(),
        read(r#"{"source_labels": ["b"], "regex": "1", "action": "drop"}"#).unwrap(),
        read(r#"{"target_label": "never", "replacement": "reached"}"#).unwrap(),
    ];
    let rules =
        RelabelRules::compile_named("metric_relabel_configs", &configs, NameValidation::Utf8).unwrap();
    let labels = Labels::from_pairs([("a", "1")]);
    let explanation = rules.explain(&mut LabelsBuilder::from(&labels));
    let dropped = explanation.dropped_by().unwrap();
    assert_eq!((dropped.rule, dropped.name.as_str()), (2, "metric_relabel_configs[2] drop"));
    let changes: Vec<String> = explanation
        .steps
        .iter()
        .flat_map(|step| &step.changes)
        .map(|change| format!("{}: {:?} -> {:?}", change.label, change.before, change.after))
        .collect();
    assert_eq!(changes, [r#"b: "" -> "1""#, r#"a: "1" -> """#]);

    let context = SeriesContext { target: &[], metadata: MetadataView::default() };
    let mut builder = LabelsBuilder::from(&labels);
    assert_eq!(Stage::apply(&rules, &mut builder, &context), Verdict::Drop);
    assert_eq!(Stage::name(&rules), "metric_relabel_configs");
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(("[a-d]{1,2}", "[a-c.:]{0,3}"), 0..5).prop_map(Labels::from_pairs)
}

proptest! {
    /// Rules that say nothing change nothing.
    #[test]
    fn identities(labels in labels()) {
        let identities = [
            r#"{"source_labels": ["a"], "target_label": "a"}"#,
            r#"{"source_labels": ["a"], "regex": "([\\s\\S]*)", "target_label": "a"}"#,
            r#"{"action": "keep"}"#,
            r#"{"action": "labelmap"}"#,
            r#"{"action": "labelkeep"}"#,
            r#"{"action": "keepequal", "source_labels": ["b"], "target_label": "b"}"#,
            r#"{"action": "labeldrop", "regex": ""}"#,
        ];
        let configs = identities.map(|json| read(json).unwrap());
        let rules = RelabelRules::compile(&configs, NameValidation::Utf8).unwrap();
        let mut builder = LabelsBuilder::from(&labels);
        prop_assert!(rules.apply(&mut builder));
        prop_assert_eq!(builder.to_labels(), labels);
    }

    /// Keep and drop of one expression are each other's opposite.
    #[test]
    fn keep_is_the_opposite_of_drop(labels in labels(), regex in "[a-c.*+|]{0,5}") {
        let rule = |action| RelabelConfig {
            source_labels: vec!["a".into(), "b".into()],
            regex: Some(regex.as_str().into()),
            action,
            ..RelabelConfig::default()
        };
        let keep = RelabelRules::compile(&[rule(Action::Keep)], NameValidation::Utf8);
        let drop = RelabelRules::compile(&[rule(Action::Drop)], NameValidation::Utf8);
        prop_assert_eq!(keep.is_ok(), drop.is_ok());
        if let (Ok(keep), Ok(drop)) = (keep, drop) {
            let mut builder = LabelsBuilder::from(&labels);
            prop_assert_ne!(keep.apply(&mut builder), drop.apply(&mut builder));
        }
    }
}
