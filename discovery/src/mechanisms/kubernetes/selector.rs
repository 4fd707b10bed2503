//! What the API server takes as label and field selectors, so that a malformed one is refused with the configuration.
//!
//! Follows `labels.Parse` and `fields.ParseSelector` of `k8s.io/apimachinery` 0.37, which Prometheus asks.

/// A field selector: `path=value`, `path==value` or `path!=value`, separated by commas that `\` may escape.
pub(super) fn parse_field(text: &str) -> Result<(), String> {
    for term in split_terms(text).filter(|term| !term.is_empty()) {
        let value = split_operator(term).ok_or_else(|| {
            format!("not a field selector: {term:?} has none of the operators =, ==, != in {text:?}")
        })?;
        let mut characters = value.chars();
        while let Some(character) = characters.next() {
            match character {
                ',' | '=' => {
                    return Err(format!("not a field selector: {character:?} must be escaped in {term:?}"));
                }
                '\\' if !matches!(characters.next(), Some('\\' | ',' | '=')) => {
                    return Err(format!("not a field selector: \\ escapes only \\, \",\" and = in {term:?}"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |character| {
        let is_end = character == ',' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    })
}

/// What stands behind the first operator.
fn split_operator(term: &str) -> Option<&str> {
    let (at, _) = term.char_indices().find(|(at, _)| {
        let rest = &term[*at..];
        rest.starts_with('=') || rest.starts_with("!=")
    })?;
    let rest = &term[at..];
    rest.strip_prefix("!=").or_else(|| rest.strip_prefix("==")).or_else(|| rest.strip_prefix('='))
}

/// A label selector: requirements separated by commas, each `key`, `!key`, `key = value`, `key != value`,
/// `key > number`, `key in (a, b)` and the like.
pub(super) fn parse_label(text: &str) -> Result<(), String> {
    let fail = |reason: String| format!("not a label selector: {reason} in {text:?}");
    let mut parser = Parser { tokens: tokens(text).map_err(fail)?, at: 0 };
    if parser.peek() == &Token::End {
        return Ok(());
    }
    loop {
        parser.requirement().map_err(fail)?;
        match parser.next() {
            Token::End => return Ok(()),
            Token::Comma => {}
            other => return Err(fail(format!("{} where \",\" or the end is expected", other.shown()))),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A key, a value, or the words `in` and `notin`.
    Word(String),
    /// `=`, `==`, `!=`, `<`, `>`.
    Operator(&'static str),
    Not,
    Open,
    Close,
    Comma,
    End,
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Operator(operator) => format!("{operator:?}"),
            Self::Not => "\"!\"".to_owned(),
            Self::Open => "\"(\"".to_owned(),
            Self::Close => "\")\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    const SPACE: &[char] = &[' ', '\t', '\r', '\n'];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(SPACE);
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            _ if rest.starts_with("==") => (Token::Operator("=="), 2),
            _ if rest.starts_with("!=") => (Token::Operator("!="), 2),
            '=' => (Token::Operator("="), 1),
            '<' => (Token::Operator("<"), 1),
            '>' => (Token::Operator(">"), 1),
            '!' => (Token::Not, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '\0' => return Err("a NUL character".to_owned()),
            _ => {
                let end = rest.find(|c| SPECIAL.contains(&c) || SPACE.contains(&c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start_matches(SPACE);
    }
    tokens.push(Token::End);
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<(), String> {
        let is_absence = self.peek() == &Token::Not;
        if is_absence {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("{} where a key is expected", other.shown())),
        };
        check_key(&key)?;
        if is_absence || matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(());
        }
        match self.next() {
            Token::Operator(operator) => {
                let value = match self.peek() {
                    Token::End | Token::Comma => String::new(),
                    _ => match self.next() {
                        Token::Word(value) => value,
                        other => return Err(format!("{} where a value is expected", other.shown())),
                    },
                };
                if matches!(operator, "<" | ">") && value.parse::<i64>().is_err() {
                    return Err(format!("{value:?} behind {operator:?} where a number is expected"));
                }
                check_value(&value)
            }
            Token::Word(word) if word == "in" || word == "notin" => self.values(),
            other => Err(format!("{} where one of in, notin, =, ==, !=, <, > is expected", other.shown())),
        }
    }

    /// `(a, b)`, any of which may be empty.
    fn values(&mut self) -> Result<(), String> {
        match self.next() {
            Token::Open => {}
            other => return Err(format!("{} where \"(\" is expected", other.shown())),
        }
        loop {
            if let Token::Word(value) = self.peek() {
                check_value(value)?;
                self.next();
            }
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(()),
                other => return Err(format!("{} where \",\" or \")\" is expected", other.shown())),
            }
        }
    }
}

/// An optional prefix, which is a DNS name, and a name.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_domain = |prefix: &str| {
        let is_label = |label: &str| {
            let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            label.bytes().next().is_some_and(is_inner)
                && label.bytes().last().is_some_and(is_inner)
                && label.bytes().all(|byte| is_inner(byte) || byte == b'-')
        };
        prefix.len() <= 253 && prefix.split('.').all(is_label)
    };
    if prefix.is_none_or(is_domain) && !name.is_empty() && is_name(name) {
        return Ok(());
    }
    Err(format!("{key:?}, which is not the key of a label,"))
}

fn check_value(value: &str) -> Result<(), String> {
    if is_name(value) {
        return Ok(());
    }
    Err(format!("{value:?}, which is not the value of a label,"))
}

/// At most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_name(name: &str) -> bool {
    let ends = [name.bytes().next(), name.bytes().last()];
    name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::{parse_field, parse_label};

    #[test]
    fn label_selectors() {
        for text in [
            "",
            "  ",
            "app",
            "!app",
            "! app",
            "app=web",
            "app==web,tier!=back",
            " app = web , tier ",
            "app=",
            "app=,b",
            "app!=",
            "app in (a,b)",
            "app in(a)",
            "app notin (a, b ,)",
            "app in ()",
            "app in (,)",
            "app in (in,notin)",
            "in in (in)",
            "n>1",
            "n < -0",
            "example.com/app.name=A_b-9",
        ] {
            // The last but one is refused for its value, as by the API server: it does not begin with a digit.
            assert_eq!(parse_label(text).is_ok(), text != "n < -0", "{text:?}: {:?}", parse_label(text));
        }
        for (text, reason) in [
            ("app=web,", "the end where a key is expected"),
            (",app", "\",\" where a key is expected"),
            ("app web", "\"web\" where one of in, notin"),
            ("app=a b", "\"b\" where \",\" or the end is expected"),
            ("app==!x", "\"!\" where a value is expected"),
            ("!app=x", "\"=\" where \",\" or the end is expected"),
            ("app in a", "\"a\" where \"(\" is expected"),
            ("app in (a", "the end where \",\" or \")\" is expected"),
            ("app in (a b)", "\"b\" where \",\" or \")\" is expected"),
            ("app in (=)", "\"=\" where \",\" or \")\" is expected"),
            ("n>x", "\"x\" behind \">\" where a number is expected"),
            ("-app", "\"-app\", which is not the key"),
            ("UP.com/app", "not the key"),
            ("/app", "not the key"),
            ("a/b/c", "not the key"),
            ("app=-web", "\"-web\", which is not the value"),
            ("app=wéb", "not the value"),
            ("app===x", "\"=\" where a value is expected"),
        ] {
            let error = parse_label(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert!(parse_label(&format!("app={}", "x".repeat(63))).is_ok());
        assert!(parse_label(&format!("app={}", "x".repeat(64))).is_err());
    }

    #[test]
    fn field_selectors() {
        for text in [
            "",
            ",",
            "status.phase=Running",
            "a==b,c!=d,",
            "=",
            "a=",
            r"metadata.name=a\,b\=c\\",
            "spec.nodeName!=",
        ] {
            assert_eq!(parse_field(text), Ok(()), "{text:?}");
        }
        for (text, reason) in [
            ("status.phase", "none of the operators"),
            ("a=b,c", "\"c\" has none of the operators"),
            ("a=b=c", "'=' must be escaped"),
            ("a===b", "'=' must be escaped"),
            (r"a=\x", "escapes only"),
            (r"a=b\", "escapes only"),
            ("a!b", "none of the operators"),
        ] {
            let error = parse_field(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
