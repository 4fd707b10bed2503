//! Reasons why something fails: in a few words, and without what differs where the same happens to others.

/// At most as many characters of a reason that no rule shortens.
const BRIEF_CHARS: usize = 60;

/// What is said in short of reasons that begin like this. Where there is nothing, it is what comes behind the next colon.
const BEGINNINGS: [(&str, Option<&str>); 17] = [
    ("cannot connect to ", None),
    ("cannot look up ", None),
    ("talking to ", None),
    ("cannot send the request: ", None),
    ("the target did not answer within ", Some("timed out")),
    ("no memory was free ", Some("no memory for the page")),
    ("no room ", Some("no memory for the page")),
    ("the page is larger than ", Some("page too large")),
    ("the page cannot be read: ", Some("page cannot be read")),
    ("the page cannot be inflated: ", Some("page cannot be inflated")),
    ("the page is encoded as ", Some("page encoded in an unknown way")),
    ("target sent no Content-Type", Some("no Content-Type")),
    ("target_limit exceeded", Some("target_limit exceeded")),
    ("cannot get a token from ", Some("no token")),
    ("cannot follow the redirect ", Some("redirect cannot be followed")),
    ("invalid URL ", Some("invalid URL")),
    ("reading the page panicked", Some("reading the page panicked")),
];

/// What a server's certificate is not accepted for.
const CERTIFICATES: [(&str, &str); 4] = [
    ("has expired", "certificate expired"),
    ("authority that is not trusted", "certificate of an unknown authority"),
    ("is valid in ", "certificate not valid yet"),
    ("certificate", "certificate not accepted"),
];

/// A reason in a few words, without any address: `connection refused`, `404 Not Found`, `certificate expired`. What was
/// said when it began tells all of it.
pub(crate) fn brief(reason: &str) -> String {
    if let Some(status) = without_words(reason).strip_prefix(STATUS) {
        return shortened(status, BRIEF_CHARS);
    }
    if reason.starts_with("answered ") {
        // Its text and its id are told with the first such answer.
        let end = [" \"", " (", ": "].iter().filter_map(|end| reason.find(end)).min();
        return shortened(&reason[..end.unwrap_or(reason.len())], BRIEF_CHARS);
    }
    if reason.starts_with("tls with ") {
        let known = CERTIFICATES.iter().find(|(part, _)| reason.contains(part));
        return known.map_or("TLS fails", |(_, brief)| brief).to_owned();
    }
    if let Some((_, rest)) = reason.strip_prefix("proxy ").and_then(|rest| rest.split_once(": ")) {
        return format!("proxy: {}", brief(rest));
    }
    if reason.contains(" took longer than ") {
        return "timed out".to_owned();
    }
    if reason.ends_with("closed the connection before its answer was complete") {
        return "connection closed too early".to_owned();
    }
    let known = BEGINNINGS.iter().find(|(beginning, _)| reason.starts_with(beginning));
    match known {
        Some((_, Some(brief))) => (*brief).to_owned(),
        Some((_, None)) => match reason.split_once(": ") {
            Some((_, cause)) => first_clause(cause),
            None => first_clause(reason),
        },
        None => first_clause(reason),
    }
}

/// How a target's status begins where it is not 200. The server's own words may follow.
const STATUS: &str = "server returned HTTP status ";

/// A target's status without what the server said beside it, which may be another thing each time.
fn without_words(reason: &str) -> &str {
    match reason.split_once(": ") {
        Some((status, _)) if status.starts_with(STATUS) => status,
        _ => reason,
    }
}

/// What comes before the first colon; behind it where that is only a place.
fn first_clause(reason: &str) -> String {
    let mut clauses = reason.split(": ").skip_while(|clause| !clause.contains(' ') && is_place(clause));
    let kept: Vec<_> = clauses.next().unwrap_or(reason).split(' ').filter(|word| !is_address(word)).collect();
    shortened(&kept.join(" "), BRIEF_CHARS)
}

/// A URL or a path.
fn is_address(word: &str) -> bool {
    word.contains("://") || word.starts_with('/')
}

/// A reason without what differs where the same happens to others: numbers, addresses, files, quoted texts, and `host`.
pub(crate) fn kind_of(reason: &str, host: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    for (at, part) in split_quoted(without_words(reason)).into_iter().enumerate() {
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

/// The host of a URL.
pub(crate) fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
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
                "server returned HTTP status 403 Forbidden: pods \"a\" is",
                "server returned HTTP status # Forbidden",
            ),
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
    fn a_reason_is_told_in_a_few_words() {
        for (reason, expected) in [
            ("cannot connect to 10.0.3.7:8080: connection refused", "connection refused"),
            ("cannot connect to [fd00::7]:80: no route to host", "no route to host"),
            (
                "cannot look up web: failed to lookup address information: Name or service not known",
                "failed to lookup address information",
            ),
            ("server returned HTTP status 404 Not Found", "404 Not Found"),
            ("server returned HTTP status 403 Forbidden: pods is forbidden: no", "403 Forbidden"),
            (
                "tls with vault failed: the server's certificate has expired 2518 days ago, by this machine's clock",
                "certificate expired",
            ),
            ("tls with a failed: the server does not speak TLS (x)", "TLS fails"),
            ("the page cannot be read: line 2, column 24 (byte 49): expected a label", "page cannot be read"),
            (
                "sample limit exceeded: the page has more than 10 samples after metric relabelling",
                "sample limit exceeded",
            ),
            ("the target did not answer within the scrape timeout of 10000 ms", "timed out"),
            ("connecting to web took longer than 5000 ms", "timed out"),
            ("talking to web failed: connection reset by peer", "connection reset by peer"),
            ("web closed the connection before its answer was complete", "connection closed too early"),
            ("proxy squid:3128: cannot connect to 10.0.0.1:80: no route to host", "proxy: no route to host"),
            ("target_limit exceeded (number of targets: 2, limit: 1)", "target_limit exceeded"),
            ("answered 403 Forbidden \"{…}\" (request id 1): no policy allows it", "answered 403 Forbidden"),
            ("/etc/targets/a.json: EOF while parsing a list at line 1", "EOF while parsing a list at line 1"),
            ("cannot use ca_file /etc/a/ca.pem: no such file or directory", "cannot use ca_file"),
            ("", ""),
        ] {
            assert_eq!(brief(reason), expected, "{reason}");
        }
        assert_eq!(brief(&"x ".repeat(500)).chars().count(), 60);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer als", 7), "größer…");
    }
}
