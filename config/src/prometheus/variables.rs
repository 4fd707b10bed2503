/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar sign. The odd cases are those of Go's `os.Expand`, through
/// which Prometheus reads external labels.
pub(super) fn expand(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, length) = shell_name(after);
        match name {
            "$" => expanded.push('$'),
            "" if length > 0 => {}
            "" => expanded.push('$'),
            name => expanded.push_str(&value(name)),
        }
        rest = &after[length..];
    }
    expanded.push_str(rest);
    expanded
}

/// The name behind a dollar sign and how many bytes it takes; an empty name of some length is dropped, one of
/// none is no name.
fn shell_name(after: &str) -> (&str, usize) {
    if let Some(inner) = after.strip_prefix('{') {
        return match inner.find('}') {
            Some(end) => (&inner[..end], end + 2),
            None => ("", 1),
        };
    }
    if after.starts_with(['*', '#', '$', '@', '!', '?', '-'])
        || after.starts_with(|c: char| c.is_ascii_digit())
    {
        return (&after[..1], 1);
    }
    let length = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    (&after[..length], length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_go_does() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$FOO-$BAR", "<FOO>-<BAR>"),
            ("${FOO}BAR", "<FOO>BAR"),
            ("$$FOO", "$FOO"),
            ("${$}x", "$x"),
            ("a$", "a$"),
            ("$ x", "$ x"),
            ("$é", "$é"),
            ("${}x", "x"),
            ("${FOO", "FOO"),
            ("$1x", "<1>x"),
            ("$*", "<*>"),
            ("${a b}", "<a b>"),
        ] {
            assert_eq!(expand(text, |name| format!("<{name}>")), expected, "{text:?}");
        }
    }
}
