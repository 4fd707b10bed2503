//! Upper and lower case one character at a time, as Go's `strings.ToLower` and `strings.ToUpper` map them.

/// Go maps İ to i, Rust to i and a combining dot.
pub(crate) fn push_lower(text: &str, into: &mut String) {
    into.extend(text.chars().map(|c| if c == 'İ' { 'i' } else { only(c.to_lowercase()).unwrap_or(c) }));
}

/// Characters whose upper case is several characters have a simple one (UnicodeData.txt), which Go takes, or
/// stay as they are.
pub(crate) fn push_upper(text: &str, into: &mut String) {
    into.extend(text.chars().map(|c| match c {
        'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => char::from_u32(u32::from(c) + 8).unwrap_or(c),
        'ᾳ' => 'ᾼ',
        'ῃ' => 'ῌ',
        'ῳ' => 'ῼ',
        _ => only(c.to_uppercase()).unwrap_or(c),
    }));
}

fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}
