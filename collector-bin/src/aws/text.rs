//! The answer for people, in lines of at most 80 characters where their words allow it.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use promferry_sigv4_auth::{CredentialError, Failure, FailureKind, Finding, LookedAt, NeededPolicy, Step};

use super::{Answer, Write};

const WIDTH: usize = 80;
/// Where the second column begins.
const COLUMN: usize = 14;

/// All answers, a block for each.
pub(super) fn of(answers: &[Answer], with_policies: bool, now: SystemTime) -> String {
    let blocks: Vec<String> = answers.iter().map(|answer| block(answer, with_policies, now)).collect();
    blocks.join("\n")
}

fn block(answer: &Answer, with_policies: bool, now: SystemTime) -> String {
    let who = &answer.who;
    let mut block = Block(format!("{}\n", answer.name.as_deref().unwrap_or("this process")));
    if let Some(url) = &answer.url {
        block.line("url", url);
    }
    block.line("signs for", &format!("{} {}", answer.scope.region, answer.scope.service));
    let is_told_below = who.failure.as_ref().is_some_and(|failure| failure.kind != FailureKind::NoProvider);
    for (index, looked_at) in who.looked_at.looked_at.iter().enumerate() {
        block.line(if index == 0 { "looked at" } else { "" }, &looked(looked_at, is_told_below));
    }
    if let Some(token) = &who.token {
        block.line("token", &token.file.display().to_string());
        block.line("", &format!("sub {}", token.subject));
        block.line("", &format!("aud {}", token.audience.join(", ")));
        block.unbroken("", &format!("iss {}", token.issuer));
        if let Some(expires_at) = token.expires_at {
            block.line("", &format!("until {}", time(expires_at, now)));
        }
    }
    for (index, step) in who.chain.iter().enumerate() {
        identity(&mut block, if index == 0 { "is" } else { "then" }, step);
    }
    match who.credentials.as_ref().map(|credentials| credentials.expires_at()) {
        Some(Some(expires_at)) => block.line("until", &time(expires_at, now)),
        Some(None) => block.line("until", "they are withdrawn: these credentials do not expire"),
        None => {}
    }
    if answer.clock_offset_ms != 0 {
        let (seconds, side) = (answer.clock_offset_ms.unsigned_abs() / 1000, answer.clock_offset_ms > 0);
        let side = if side { "behind" } else { "ahead of" };
        block.line(
            "clock",
            &format!(
                "{} {side} AWS': signatures are made with AWS' time, samples keep this machine's; set it right",
                span(Duration::from_secs(seconds))
            ),
        );
    }
    match (&answer.write, &who.failure) {
        (Write::LetIn(status), _) => {
            block.line("may write", &format!("yes: a write of no series was let in ({status})"));
        }
        (Write::Refused(refused), _) => failed(&mut block, "may write", "no", refused),
        (Write::Unknown(unknown), _) => failed(&mut block, "may write", "not known", unknown),
        (Write::NotAsked, Some(none)) => failed(&mut block, "credentials", "none", none),
        (Write::NotAsked, None) => block.line("may write", "not asked"),
    }
    if with_policies {
        answer.policies.iter().for_each(|policy| block.policy("whole way", policy));
    }
    block.0
}

fn looked(looked_at: &LookedAt, is_told_below: bool) -> String {
    let what = match &looked_at.role_arn {
        Some(role_arn) => format!("{} {role_arn}", looked_at.provider),
        None => looked_at.provider.clone(),
    };
    match &looked_at.finding {
        Finding::Used => format!("{what}: used"),
        Finding::NotConfigured(why) => format!("{what}: {why}"),
        Finding::Skipped(why) => format!("{what}: left out, {why}"),
        Finding::Failed(_) if is_told_below => format!("{what}: failed, see below"),
        Finding::Failed(why) => format!("{what}: {why}"),
    }
}

fn identity(block: &mut Block, label: &str, step: &Step) {
    match &step.identity {
        Ok(identity) => block.line(label, &identity.arn),
        Err(error) => {
            let who = step.role_arn.as_deref().unwrap_or("unknown");
            let why = match error {
                // What is on the way has its own sentence where it matters.
                CredentialError::Unreachable { endpoint, reason, .. } => {
                    format!("no answer of STS at {endpoint}: {reason}")
                }
                CredentialError::Refused { code, message, advice, .. } => {
                    let advice = advice.as_deref().map(|advice| format!("; {advice}")).unwrap_or_default();
                    format!("STS says {code}: {}{advice}", message.trim_end_matches('.'))
                }
                other => other.to_string(),
            };
            block.line(label, &format!("{who}: {why}"));
        }
    }
    let external_id = if step.external_id_given { ", with an external id" } else { "" };
    block.line("", &format!("by {}{external_id}", step.provider));
}

fn failed(block: &mut Block, label: &str, answer: &str, failure: &Failure) {
    let kind = failure.kind.name().replace('_', " ");
    block.line(label, &format!("{answer} ({kind})"));
    block.line("", &failure.what);
    if let Some(said) = &failure.answer {
        let label = if matches!(failure.kind, FailureKind::Route(_)) { "failed with" } else { "AWS says" };
        block.line(label, said);
    }
    if let Some(request_id) = &failure.request_id {
        block.line("request id", request_id);
    }
    failure.needed.iter().for_each(|policy| block.policy("needed", policy));
}

fn time(time: SystemTime, now: SystemTime) -> String {
    let left = match time.duration_since(now) {
        Ok(left) => format!("in {}", span(left)),
        Err(past) => format!("{} ago", span(past.duration())),
    };
    format!("{} ({left})", humantime::format_rfc3339_seconds(time))
}

/// Two units of time are enough.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Lines of a label and what it tells, which is broken between words.
struct Block(String);

impl Block {
    fn line(&mut self, label: &str, text: &str) {
        let mut line = format!("  {label:width$}", width = COLUMN - 2);
        let mut is_empty = true;
        for word in text.split_whitespace() {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.end(&line);
                line = " ".repeat(COLUMN);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.end(&line);
    }

    /// A line that stays one: a short word before a long one is not left alone.
    fn unbroken(&mut self, label: &str, text: &str) {
        self.end(&format!("  {label:width$}{text}", width = COLUMN - 2));
    }

    fn policy(&mut self, label: &str, policy: &NeededPolicy) {
        self.unbroken(label, &format!("{}:", policy.place));
        if let Some(note) = &policy.note {
            self.line("", &format!("({note})"));
        }
        // At the margin, so that it can be copied.
        self.0.push_str(&policy.json);
        self.0.push('\n');
    }

    fn end(&mut self, line: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use promferry_bench::port::HeldPort;
    use promferry_sigv4_auth::{Clock, CredentialChain, CredentialsConfig, Environment, Reach, Scope};

    use super::*;

    /// What cannot be had without a network of AWS: names and addresses of its own that do not answer. Which of these it
    /// is, `reach`'s tests of sigv4-auth show. With `PROMFERRY_PIN=1` the files are written instead.
    #[tokio::test]
    async fn what_is_missing_on_the_way_is_said() {
        let role = "arn:aws:iam::111122223333:role/collector";
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&token, "header.payload.signature").unwrap();
        let closed = HeldPort::any().unwrap();
        let sts = format!("http://{}", closed.address());
        let environment = Environment::from_pairs([
            ("AWS_ROLE_ARN", role),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &sts),
        ]);
        let chain = CredentialChain::new(&CredentialsConfig::default(), environment, "eu-west-1").unwrap();
        let mut who = chain.who_am_i().await;
        assert!(who.credentials.is_none() && who.chain.is_empty());
        let sts = Uri::from_static("https://sts.eu-west-1.amazonaws.com");
        for (name, reach, reason) in [
            ("no-route", Reach::TimedOut { private: false }, "it did not answer in time"),
            ("no-route-at-all", Reach::NoRoute, "no connection"),
            (
                "a-security-group-that-is-closed",
                Reach::TimedOut { private: true },
                "it did not answer in time",
            ),
            ("private-dns-that-is-off", Reach::NoSuchName, "no connection"),
        ] {
            who.failure = Some(Failure::of_reach(&sts, reach, reason));
            let answer = Answer {
                name: Some(String::from("amp")),
                url: Some(String::from(
                    "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
                )),
                scope: Scope { region: String::from("eu-west-1"), service: String::from("aps") },
                who: who.clone(),
                clock_offset_ms: Clock::system().offset_ms(),
                write: Write::NotAsked,
                policies: Vec::new(),
            };
            let said = of(&[answer], false, SystemTime::UNIX_EPOCH);
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/data/whoami")
                .join(name)
                .with_extension("txt");
            if std::env::var_os("PROMFERRY_PIN").is_some() {
                std::fs::write(&file, &said).unwrap();
            }
            assert_eq!(said, std::fs::read_to_string(&file).unwrap(), "{}", file.display());
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        let mut block = Block(String::new());
        block.line("looked at", &"word ".repeat(30));
        block.line("credentials", &"x".repeat(90));
        block.line("is", "short");
        let lines: Vec<&str> = block.0.lines().collect();
        assert_eq!(lines.len(), 5, "{}", block.0);
        assert!(lines[..3].iter().all(|line| line.len() <= WIDTH), "{}", block.0);
        assert!(lines[1].starts_with("              word word"), "{}", block.0);
        assert_eq!(lines[3], format!("  credentials {}", "x".repeat(90)));
        assert_eq!(lines[4], "  is          short");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in
            [(7, "7 s"), (59 * 60, "59 min"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h"), (7_260, "2 h 1 min")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
