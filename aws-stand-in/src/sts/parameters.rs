//! A call's parameters, and the constraints of STS' service model on them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::sts::refusal::Refusal;

/// The form that a call brought.
pub(crate) struct Parameters(BTreeMap<String, String>);

/// `[\w+=,.@-]*`
fn is_session_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter)
}

/// `[\w+=,.@:\/-]*`
fn is_external_id(letter: char) -> bool {
    is_session_name(letter) || ":/".contains(letter)
}

/// `[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+`
fn is_of_an_arn(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

impl Parameters {
    pub(crate) fn read(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The parameter's text; checked to be there by [`check`](Self::check) before.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// What is asked for, else STS' default of one hour; checked before.
    pub(crate) fn duration_seconds(&self) -> u64 {
        self.get("DurationSeconds").and_then(|text| text.parse().ok()).unwrap_or(3_600)
    }

    /// Checks what is required and what is optional, with AWS' texts for all that is wrong in one answer. Other parameters
    /// of AWS would change what is decided, and are refused.
    pub(crate) fn check(&self, required: &[&str], optional: &[&str]) -> Result<(), Refusal> {
        let known = |name: &str| {
            ["Action", "Version"].contains(&name) || required.contains(&name) || optional.contains(&name)
        };
        if let Some(unknown) = self.0.keys().find(|name| !known(name)) {
            return Err(Refusal::validation(format!("the parameter {unknown} is not understood here")));
        }
        let mut violations: Vec<String> = Vec::new();
        for &name in required.iter().chain(optional) {
            let member = lower_first(name);
            match self.get(name) {
                Some(value) => {
                    let constraints = constraints(name, value).into_iter();
                    // A token is a secret: AWS does not repeat it either.
                    let shown = if name == "WebIdentityToken" { "***" } else { value };
                    violations.extend(
                        constraints.map(|constraint| violation(&format!("'{shown}'"), &member, &constraint)),
                    );
                }
                None if required.contains(&name) => {
                    violations.push(violation("null", &member, "Member must not be null"))
                }
                None => {}
            }
        }
        if violations.is_empty() {
            return Ok(());
        }
        let errors = if violations.len() == 1 { "error" } else { "errors" };
        let text = format!("{} validation {errors} detected: {}", violations.len(), violations.join("; "));
        Err(Refusal::validation(text))
    }
}

/// The form is that of AWS' answers to SDKs (mmmorris1975/aws-runas#80).
fn violation(value: &str, member: &str, constraint: &str) -> String {
    format!("Value {value} at '{member}' failed to satisfy constraint: {constraint}")
}

/// The constraints that a value does not satisfy. Their bounds are those of botocore 1.44.5, `data/sts/2011-06-15`.
fn constraints(name: &str, value: &str) -> Vec<String> {
    match name {
        "RoleArn" => text(
            value,
            20..=2048,
            is_of_an_arn,
            r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
        ),
        "RoleSessionName" => text(value, 2..=64, is_session_name, r"[\w+=,.@-]*"),
        "ExternalId" => text(value, 2..=1224, is_external_id, r"[\w+=,.@:\/-]*"),
        "WebIdentityToken" => text(value, 4..=20_000, |_| true, ""),
        "DurationSeconds" => match value.parse::<i64>() {
            Ok(seconds) if seconds < 900 => {
                vec![String::from("Member must have value greater than or equal to 900")]
            }
            Ok(seconds) if seconds > 43_200 => {
                vec![String::from("Member must have value less than or equal to 43200")]
            }
            Ok(_) => Vec::new(),
            Err(_) => vec![String::from("Member must be a number")],
        },
        _ => Vec::new(),
    }
}

fn text(
    value: &str,
    length: RangeInclusive<usize>,
    is_allowed: fn(char) -> bool,
    pattern: &str,
) -> Vec<String> {
    let mut violated = Vec::new();
    if !value.chars().all(is_allowed) {
        violated.push(format!("Member must satisfy regular expression pattern: {pattern}"));
    }
    let letters = value.chars().count();
    if letters < *length.start() {
        violated.push(format!("Member must have length greater than or equal to {}", length.start()));
    }
    if letters > *length.end() {
        violated.push(format!("Member must have length less than or equal to {}", length.end()));
    }
    violated
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
