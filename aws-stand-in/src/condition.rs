//! The `Condition` element of a policy.

use std::collections::BTreeMap;

use crate::arn::{matches_arn, matches_pattern};

/// One operator on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    operator: Operator,
    any_value: bool,
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    StringEquals,
    StringNotEquals,
    StringLike,
    /// `ArnEquals` too: the two are the same (IAM User Guide, "Condition operators").
    ArnLike,
    Bool,
}

impl Condition {
    pub(crate) fn new(operator: &str, key: String, values: Vec<String>) -> Result<Self, String> {
        let (any_value, name) = match operator.strip_prefix("ForAnyValue:") {
            Some(name) => (true, name),
            None => (false, operator),
        };
        let operator = match name {
            "StringEquals" => Operator::StringEquals,
            "StringNotEquals" => Operator::StringNotEquals,
            "StringLike" => Operator::StringLike,
            "ArnLike" | "ArnEquals" => Operator::ArnLike,
            "Bool" => Operator::Bool,
            _ => {
                return Err(format!(
                    "the operator {operator:?} is not known: StringEquals, StringNotEquals, StringLike, ArnEquals, \
                     ArnLike and Bool are, each with or without ForAnyValue:"
                ));
            }
        };
        if values.is_empty() {
            return Err(format!("the condition on {key:?} has no value"));
        }
        // Keys are compared without regard to case (IAM User Guide, "Condition").
        Ok(Self { operator, any_value, key: key.to_ascii_lowercase(), values })
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &String> {
        self.values.iter()
    }

    /// Whether a request's context meets it. A key that the request does not have meets what is negated only; an
    /// operator for one value is not met by several.
    pub(crate) fn is_met(&self, context: &BTreeMap<String, Vec<String>>) -> bool {
        let given = context.get(&self.key).map_or(&[][..], Vec::as_slice);
        match given {
            [] => self.operator == Operator::StringNotEquals && !self.any_value,
            [one] => self.is_met_by(one),
            many => self.any_value && many.iter().any(|one| self.is_met_by(one)),
        }
    }

    fn is_met_by(&self, given: &str) -> bool {
        let mut values = self.values.iter();
        match self.operator {
            Operator::StringEquals => values.any(|value| value == given),
            Operator::StringNotEquals => values.all(|value| value != given),
            Operator::StringLike => values.any(|value| matches_pattern(value, given)),
            Operator::ArnLike => values.any(|value| matches_arn(value, given)),
            Operator::Bool => values.any(|value| value.eq_ignore_ascii_case(given)),
        }
    }
}
