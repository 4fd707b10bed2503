//! URLs written as Go's `net/url` writes them, so that a target is asked for the same thing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `scheme://host/path?query`, the query sorted by name.
pub(super) fn join(scheme: &str, host: &str, path: &str, query: &BTreeMap<&str, Vec<&str>>) -> String {
    let mut url = format!("{scheme}://{host}");
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape(&mut url, path, is_path_byte);
    let mut separator = '?';
    for (name, values) in query {
        for value in values {
            url.push(separator);
            separator = '&';
            escape_query(&mut url, name);
            url.push('=');
            escape_query(&mut url, value);
        }
    }
    url
}

/// A value as it is in a query.
pub(crate) fn escaped(value: &str) -> String {
    let mut text = String::new();
    escape_query(&mut text, value);
    text
}

fn escape_query(to: &mut String, text: &str) {
    for (at, part) in text.split(' ').enumerate() {
        if at > 0 {
            to.push('+');
        }
        escape(to, part, is_unreserved);
    }
}

fn escape(to: &mut String, text: &str, keep: fn(u8) -> bool) {
    for byte in text.bytes() {
        if keep(byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// A `?` in a path is escaped: it does not start a query.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"$&+,/:;=@".contains(&byte)
}
