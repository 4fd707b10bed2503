//! Amazon Resource Names, and the patterns that policies write for them.

/// The ARN of a role: `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleArn<'a> {
    pub(crate) partition: &'a str,
    pub(crate) account: &'a str,
    /// Without its path, as the ARN of a session has it.
    pub(crate) name: &'a str,
}

impl<'a> RoleArn<'a> {
    pub(crate) fn parse(arn: &'a str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else { return None };
        let path = resource.strip_prefix("role/")?;
        let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_account && !partition.is_empty()).then_some(Self { partition, account, name })
    }

    pub(crate) fn session(&self, session_name: &str) -> String {
        format!("arn:{}:sts::{}:assumed-role/{}/{session_name}", self.partition, self.account, self.name)
    }
}

/// The account in any ARN; empty where it has none.
pub(crate) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// `*` stands for any text, `?` for one character.
pub(crate) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0, 0);
    // Where the last star was, and how much of the text it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(one) if *one == '?' || *one == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((star_at, taken_to)) = star else { return false };
                star = Some((star_at, taken_to + 1));
                at = star_at + 1;
                in_text = taken_to + 1;
            }
        }
    }
    pattern[at..].iter().all(|one| *one == '*')
}

/// As `ArnLike` compares: each of the six parts by itself, so that no wildcard reaches over a colon but in the last.
pub(crate) fn matches_arn(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<&str>, Vec<&str>) =
        (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    pattern.len() == 6
        && arn.len() == 6
        && pattern.iter().zip(&arn).all(|(pattern, part)| matches_pattern(pattern, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*a*b*", "xxaybz", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("arn:aws:aps:*:1:workspace/*", "arn:aws:aps:eu-west-1:1:workspace/ws-1", true),
            ("system:serviceaccount:*:x", "system:serviceaccount:a:b:x", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
        assert!(matches_arn("arn:aws:iam::*:role/a/*", "arn:aws:iam::1:role/a/b/c"));
        assert!(!matches_arn("arn:*:role/a", "arn:aws:iam::1:role/a"));
        assert!(!matches_arn("arn:aws:*::1:role/a", "arn:aws:iam:x:1:role/a"));
    }

    #[test]
    fn roles() {
        let role = RoleArn::parse("arn:aws:iam::111122223333:role/path/writer").unwrap();
        assert_eq!(role.session("s"), "arn:aws:sts::111122223333:assumed-role/writer/s");
        for wrong in [
            "",
            "writer",
            "arn:aws:iam::1:role/x",
            "arn:aws:iam::111122223333:user/x",
            "arn:aws:iam::111122223333:role/",
        ] {
            assert_eq!(RoleArn::parse(wrong), None, "{wrong}");
        }
    }
}
