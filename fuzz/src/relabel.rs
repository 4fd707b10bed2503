use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::{Action, RelabelConfig, RelabelRules};

use crate::input::lines;

/// Any pattern in Go's syntax, any template, any label value. The input's lines: the pattern, the replacement, the
/// target label; the rest is the value.
pub fn relabel(data: &[u8]) {
    let [regex, replacement, target_label, value] = lines::<4>(data);
    let source = Labels::from_pairs([("in", value.as_str()), ("in_two", "second"), ("__name__", "m")]);
    let replace = RelabelConfig {
        source_labels: vec!["in".into()],
        regex: Some(regex.as_str().into()),
        target_label: target_label.as_str().into(),
        replacement: replacement.as_str().into(),
        ..RelabelConfig::default()
    };
    let by_name = |action| RelabelConfig { regex: replace.regex.clone(), action, ..RelabelConfig::default() };
    let configs = [
        replace.clone(),
        RelabelConfig { target_label: "out".into(), ..replace.clone() },
        RelabelConfig { action: Action::LabelMap, source_labels: Vec::new(), ..replace.clone() },
        by_name(Action::LabelDrop),
        by_name(Action::LabelKeep),
        RelabelConfig { source_labels: vec!["in".into()], ..by_name(Action::Keep) },
    ];
    for validation in [NameValidation::Utf8, NameValidation::Legacy] {
        for config in &configs {
            let Ok(rules) = compile(config, validation) else { continue };
            let (mut applied, mut explained) = (LabelsBuilder::from(&source), LabelsBuilder::from(&source));
            let kept = rules.apply(&mut applied);
            assert_eq!(rules.explain(&mut explained).kept, kept);
            let (applied, explained) = (applied.to_labels(), explained.to_labels());
            assert_eq!(applied, explained);
            let names: Vec<_> = applied.iter().map(|label| label.name.as_str()).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
            assert!(applied.iter().all(|label| !label.name.is_empty() && !label.value.is_empty()));
        }
    }
    group_means_the_same(&regex, &source);
}

/// A pattern and the same in a group that nothing refers to: what one matches, literals by short cuts, the other
/// matches too.
fn group_means_the_same(regex: &str, source: &Labels) {
    // A quotation without an end would take the group's end in.
    if regex.contains(r"\Q") {
        return;
    }
    let keep = |regex: String| RelabelConfig {
        source_labels: vec!["in".into()],
        regex: Some(regex.into()),
        action: Action::Keep,
        ..RelabelConfig::default()
    };
    let plain = compile(&keep(regex.to_owned()), NameValidation::Utf8);
    let grouped = compile(&keep(format!("(?:(?:{regex}){{1}})")), NameValidation::Utf8);
    // The group may be one level or one repetition too many.
    let (Ok(plain), Ok(grouped)) = (plain, grouped) else { return };
    let (mut one, mut other) = (LabelsBuilder::from(source), LabelsBuilder::from(source));
    assert_eq!(plain.apply(&mut one), grouped.apply(&mut other), "{regex:?} on {:?}", source.get("in"));
}

fn compile(config: &RelabelConfig, validation: NameValidation) -> Result<RelabelRules, ()> {
    RelabelRules::compile(std::slice::from_ref(config), validation).map_err(|error| {
        assert!(!error.to_string().is_empty());
    })
}
