use std::time::Duration;

use proptest::prelude::*;
use tracing::subscriber::with_default;

use super::*;

fn message(text: &str, fields: &[(&'static str, &str)]) -> Message {
    Message {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_402_596_391),
        level: "WARN",
        text: text.to_owned(),
        fields: fields.iter().map(|(key, value)| (*key, Value::Text((*value).to_owned()))).collect(),
    }
}

/// The keys and values of a line of logfmt, as Go's readers take it.
fn read_logfmt(line: &str) -> Vec<(String, String)> {
    let mut rest = line.strip_suffix('\n').unwrap();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').unwrap();
        let value = match after.strip_prefix('"') {
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                rest = &after[end..];
                after[..end].to_owned()
            }
            Some(quoted) => {
                let (value, after) = unquote(quoted);
                rest = after;
                value
            }
        };
        fields.push((key.to_owned(), value));
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    fields
}

fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        let digits = match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => {
                    value.push('\n');
                    continue;
                }
                'r' => {
                    value.push('\r');
                    continue;
                }
                't' => {
                    value.push('\t');
                    continue;
                }
                'x' => 2,
                'u' => 4,
                'U' => 8,
                plain @ ('"' | '\\') => {
                    value.push(plain);
                    continue;
                }
                other => panic!("\\{other}"),
            },
            c => {
                value.push(c);
                continue;
            }
        };
        let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
        value.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
    }
    panic!("no end: {quoted}");
}

#[test]
fn lines_are_those_of_prometheus() {
    for (text, fields, logfmt, json) in [
        ("started", &[][..], "msg=started", r#""msg":"started""#),
        ("two words", &[], r#"msg="two words""#, r#""msg":"two words""#),
        ("", &[("a", "")], r#"msg="" a="""#, r#""msg":"","a":"""#),
        ("a=b", &[("path", "/a/b\\c")], r#"msg="a=b" path=/a/b\c"#, r#""msg":"a=b","path":"/a/b\\c""#),
        (
            "say \"x\"",
            &[("back", "a \\ b")],
            r#"msg="say \"x\"" back="a \\ b""#,
            r#""msg":"say \"x\"","back":"a \\ b""#,
        ),
        ("two\nlines\r\n\tmore", &[], r#"msg="two\nlines\r\n\tmore""#, r#""msg":"two\nlines\r\n\tmore""#),
        ("\u{1b}[31mred\u{7f}", &[], r#"msg="\x1b[31mred\x7f""#, r#""msg":"\u001b[31mred\u007f""#),
        ("größe→∞", &[], "msg=größe→∞", r#""msg":"größe→∞""#),
        (
            "a\u{2028}b\u{202e}c\u{a0}d\u{85}",
            &[],
            r#"msg="a\u2028b\u202ec\u00a0d\u0085""#,
            r#""msg":"a\u2028b\u202ec\u00a0d\u0085""#,
        ),
        ("\u{e0001}", &[], r#"msg="\U000e0001""#, r#""msg":"\udb40\udc01""#),
    ] {
        let message = message(text, fields);
        let expected = format!("time=2026-11-23T02:56:36.391Z level=WARN {logfmt}\n");
        assert_eq!(message.line(LogFormat::Logfmt), expected);
        let expected = format!("{{\"time\":\"2026-11-23T02:56:36.391Z\",\"level\":\"WARN\",{json}}}\n");
        assert_eq!(message.line(LogFormat::Json), expected);
    }
}

#[test]
fn events_keep_the_types_of_their_fields() {
    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let said = |format| {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines { format })
            .with_writer(move || writer.clone());
        with_default(tracing_subscriber::registry().with(layer), || {
            let error = std::io::Error::other("it broke");
            let cause = &error as &(dyn std::error::Error + 'static);
            tracing::info!(job = %"api", n = 3_u64, by = -2, at = 0.5, not = f64::NAN, ok = true, none = None::<u64>, cause, "{}", "done");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    let line = said(LogFormat::Logfmt);
    let (_, after) = line.split_once(" level=").unwrap();
    assert_eq!(after, "INFO msg=done job=api n=3 by=-2 at=0.5 not=NaN ok=true cause=\"it broke\"\n");
    let line: serde_json::Value = serde_json::from_str(&said(LogFormat::Json)).unwrap();
    assert_eq!(line["n"], 3);
    assert_eq!(line["by"], -2);
    assert_eq!(line["at"], 0.5);
    assert_eq!(line["not"], "NaN");
    assert_eq!(line["ok"], true);
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["cause"], "it broke");
}

#[test]
fn what_is_too_long_is_cut() {
    let long = "é\"".repeat(LINE_MAX);
    for format in [LogFormat::Logfmt, LogFormat::Json] {
        for (text, fields) in [
            (long.as_str(), vec![("job", "api")]),
            ("short", vec![("first", long.as_str()), ("job", "api")]),
            (&long.replace(['é', '"'], "x"), vec![("job", "api")]),
        ] {
            let line = message(text, &fields).line(format);
            assert!(line.len() <= LINE_MAX && line.len() > LINE_MAX / 2, "{}", line.len());
            assert!(line.contains(CUT));
            // What comes after a long text is there; after a line that is full there is nothing.
            assert_eq!(line.contains("api"), text != "short", "{line}");
        }
    }
}

proptest! {
    #[test]
    fn a_line_says_what_was_to_be_said(text in ".*", value in "\\PC*|.*") {
        let message = message(&text, &[("key", &value)]);
        let expected = [("level", "WARN"), ("msg", &text), ("key", &value)];
        for format in [LogFormat::Logfmt, LogFormat::Json] {
            let line = message.line(format);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line[..line.len() - 1].contains(char::is_control));
            let fields: Vec<(String, String)> = match format {
                LogFormat::Logfmt => read_logfmt(&line),
                LogFormat::Json => {
                    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
                    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                    object.iter().map(|(key, value)| (key.clone(), text(value))).collect()
                }
            };
            for (key, value) in expected {
                prop_assert!(fields.iter().any(|(of, said)| of == key && said == value), "{line}");
            }
        }
    }

    #[test]
    fn no_line_is_too_long(text in prop::collection::vec(any::<char>(), 0..20_000), value in ".*") {
        let text: String = text.into_iter().collect();
        for format in [LogFormat::Logfmt, LogFormat::Json] {
            let line = message(&value, &[("a", &text), ("b", &text), ("c", "d")]).line(format);
            prop_assert!(line.len() <= LINE_MAX);
            if format == LogFormat::Json {
                serde_json::from_str::<serde_json::Value>(&line).unwrap();
            } else {
                read_logfmt(&line);
            }
        }
    }
}
