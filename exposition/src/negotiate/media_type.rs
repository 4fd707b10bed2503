use std::collections::BTreeMap;

/// A `Content-Type` taken apart.
pub(super) struct MediaType {
    /// `type/subtype` in lower case.
    pub(super) name: String,
    parameters: BTreeMap<String, String>,
}

impl MediaType {
    /// The parameter of this name, which is written in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// The media type and its parameters, by the rules of Go's `mime.ParseMediaType`.
pub(super) fn parse(text: &str) -> Result<MediaType, &'static str> {
    let (base, mut rest) = match text.find(';') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let media_type = base.trim().to_lowercase();
    let (main, subtype) = split_token(&media_type);
    let Some(subtype) = subtype.strip_prefix('/').filter(|_| !main.is_empty()) else {
        // Go takes a lone word for a media type; it is one that nobody supports.
        return if main.is_empty() { Err("no media type") } else { lone_word(&media_type, subtype) };
    };
    let (token, after) = split_token(subtype);
    if token.is_empty() || !after.is_empty() {
        return Err("malformed media subtype");
    }
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || (rest.starts_with(';') && rest[1..].trim_start().is_empty()) {
            break;
        }
        let (name, value, after) = parameter(rest).ok_or("invalid media parameter")?;
        if parameters.get(&name).is_some_and(|known| *known != value) {
            return Err("duplicate parameter name");
        }
        parameters.insert(name, value);
        rest = after;
    }
    Ok(MediaType { name: media_type, parameters })
}

fn lone_word(word: &str, after: &str) -> Result<MediaType, &'static str> {
    if !after.is_empty() {
        return Err("expected slash after first token");
    }
    Ok(MediaType { name: word.to_owned(), parameters: BTreeMap::new() })
}

/// `; name=value`: the name in lower case, the value, and what follows.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = split_token(text.strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=').filter(|_| !name.is_empty())?.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, after) = quoted_value(quoted)?;
        return Some((name.to_lowercase(), value, after));
    }
    let (value, after) = split_token(rest);
    (!value.is_empty()).then(|| (name.to_lowercase(), value.to_owned(), after))
}

fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\r' | '\n' => return None,
            // A backslash before what needs no escape stands for itself: browsers send Windows paths.
            '\\' => match chars.next_if(|(_, next)| is_special(*next)) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    None
}

fn split_token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_graphic() || is_special(c)).unwrap_or(text.len());
    text.split_at(end)
}

const fn is_special(c: char) -> bool {
    matches!(c, '(' | ')' | '<' | '>' | '@' | ',' | ';' | ':' | '\\' | '"' | '/' | '[' | ']' | '?' | '=')
}
