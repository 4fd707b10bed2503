//! What is wrong with JSON that somebody else wrote.

/// An error without what stands there, which may be secret: where it is, and what was expected.
pub(super) fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        _ if !error.is_data() => text,
        Some((_, expected)) => format!("expected {expected}"),
        None => format!("invalid data at line {} column {}", error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn nothing_that_stands_there_is_repeated() {
        for (json, expected) in [
            (r#"{"a": "hush"}"#, "expected u8 at line 1 column 12"),
            (r#"{"a": "hush, expected nothing"}"#, "expected u8 at line 1 column 30"),
            (r#"{"a": 77777}"#, "expected u8 at line 1 column 11"),
            (r#""hush""#, "expected a map at line 1 column 6"),
            (r#"{"a": 1"#, "EOF while parsing an object at line 1 column 7"),
        ] {
            let error = serde_json::from_str::<std::collections::BTreeMap<String, u8>>(json).unwrap_err();
            assert_eq!(without_values(&error), expected, "{json}");
        }
    }
}
