//! Reasons that say the same of different targets, told as one.

/// A reason without what differs where the same happens to others: numbers, addresses, files, quoted texts, and `host`.
pub(crate) fn kind_of(reason: &str, host: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    for (at, part) in split_quoted(reason).into_iter().enumerate() {
        if at % 2 == 1 {
            kind.push_str("\"…\"");
            continue;
        }
        for word in part.split_inclusive(' ') {
            push_word(&mut kind, word, host);
        }
    }
    kind
}

/// At most so many characters of a text, which `…` ends if it was longer.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

/// What is outside of quotes and what is inside, by turns. A quote without an end is no quote.
fn split_quoted(text: &str) -> Vec<&str> {
    let mut quotes = Vec::new();
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if c == '"' && !is_escaped {
            quotes.push(at);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for pair in quotes.chunks_exact(2) {
        parts.extend([&text[from..pair[0]], &text[pair[0] + 1..pair[1]]]);
        from = pair[1] + 1;
    }
    parts.push(&text[from..]);
    parts
}

fn push_word(kind: &mut String, word: &str, host: &str) {
    let core = word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '/'));
    if !core.is_empty() && (is_place(core) || core == host) {
        // The core is a part of the word.
        let from = word.find(core).unwrap_or_default();
        kind.push_str(&word[..from]);
        kind.push('…');
        kind.push_str(&word[from + core.len()..]);
        return;
    }
    let mut in_number = false;
    for c in word.chars() {
        let is_digit = c.is_ascii_digit();
        if !is_digit {
            kind.push(c);
        } else if !in_number {
            kind.push('#');
        }
        in_number = is_digit;
    }
}

/// Whether this is an address, a host with a port or a domain, a URL or a file, or an id such as `promferry-1795414890`.
fn is_place(word: &str) -> bool {
    let is_id = word.contains('-') && word.contains(|c: char| c.is_ascii_digit());
    let has_port = word
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let has_domain = word.split_once('.').is_some_and(|(before, after)| {
        before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric)
    });
    has_port || has_domain || is_id || word.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_targets_is_no_part_of_a_reason() {
        for (reason, kind) in [
            (
                "cannot connect to 10.0.3.7:8080: connection refused",
                "cannot connect to …: connection refused",
            ),
            ("cannot connect to [fd00::7]:80: no route to host", "cannot connect to […: no route to host"),
            ("cannot look up web.prod.svc: no such host", "cannot look up …: no such host"),
            ("cannot look up web: no such host", "cannot look up …: no such host"),
            ("server returned HTTP status 404 Not Found", "server returned HTTP status # Not Found"),
            (
                "line 3, column 14: expected a value, found \"x y\"",
                "line #, column #: expected a value, found \"…\"",
            ),
            ("a \" alone", "a \" alone"),
            (
                "cannot use ca_file /etc/a/ca.pem: no such file or directory",
                "cannot use ca_file …: no such file or directory",
            ),
            ("series {a=\"1.2.3.4:9\"} is too long", "series {a=\"…\"} is too long"),
            ("session promferry-1795414890 has expired", "session … has expired"),
            ("", ""),
        ] {
            assert_eq!(kind_of(reason, "web"), kind);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer als", 7), "größer…");
    }
}
