//! That nothing a program emitted shows a secret.

use std::path::Path;

use promferry_aws_stand_in::Fault;

use crate::scene::{Scene, WORKSPACE};

/// How much of a session token is as bad as all of it.
const TOKEN_PART: usize = 40;
/// So many hexadecimal digits of a signature let a request pass as ours for five minutes.
const SIGNATURE_DIGITS: usize = 16;

/// How much of a secret key: most of what a log that shortens would leave.
const KEY_PART: usize = 20;

/// The program's pages, each with what is accepted of it.
pub(crate) const PAGES: [(&str, &str); 4] =
    [("/metrics", "*/*"), ("/", "text/html"), ("/", "text/plain"), ("/api/v1/targets", "*/*")];

/// What a program emitted: the files below a folder and what was read from it, each by its name.
#[derive(Default)]
pub(crate) struct Emitted {
    texts: Vec<(String, String)>,
}

impl Emitted {
    pub(crate) fn add(&mut self, name: impl Into<String>, text: impl AsRef<[u8]>) {
        // Secrets are ASCII: what is no text may become question marks around them.
        self.texts.push((name.into(), String::from_utf8_lossy(text.as_ref()).into_owned()));
    }

    /// The last that was added, for a message.
    pub(crate) fn last(&self) -> String {
        self.texts.iter().rev().take(4).map(|(name, text)| format!("{name}:\n{text}\n")).collect()
    }

    /// Every file below a folder (logs, what waits to be sent, pages kept) but the configuration, which is given to
    /// the program and may hold keys.
    pub(crate) fn add_folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.add_folder(&path);
            } else if path.file_name().is_none_or(|name| name != "prometheus.yml") {
                // What is sent is removed at any moment.
                let Ok(content) = std::fs::read(&path) else { continue };
                self.add(path.display().to_string(), content);
            }
        }
    }

    /// Where this is shown.
    pub(crate) fn places_of(&self, text: &str) -> Vec<String> {
        self.find(&[text.to_owned()])
    }

    /// Panics where one of the secrets, a part of it that is as bad, or any signature is shown.
    pub(crate) fn assert_no_secret(&self, secrets: &[String]) {
        assert!(!secrets.is_empty(), "there is nothing to look for");
        for place in ["/log", "/data/", "/metrics"] {
            let is_there = self.texts.iter().any(|(name, text)| name.contains(place) && !text.is_empty());
            assert!(is_there, "nothing of {place} was kept: there is nothing to look at");
        }
        self.assert_none_of(secrets);
    }

    /// The same, wherever what was emitted came from.
    pub(crate) fn assert_none_of(&self, secrets: &[String]) {
        let found = self.find(secrets);
        assert!(found.is_empty(), "secrets are shown:\n{}", found.join("\n"));
    }

    fn find(&self, secrets: &[String]) -> Vec<String> {
        let needles: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut found = Vec::new();
        for (name, text) in &self.texts {
            let first = needles.iter().filter_map(|needle| text.find(needle)).min();
            found.extend(first.map(|at| format!("{name}: {:?}", around(text, at))));
            found.extend(signature(text).map(|at| format!("{name}, a signature: {:?}", around(text, at))));
        }
        found
    }
}

/// The ways in which a secret is written that give it away.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    // Of a JSON web token the head and the claims are no secret; its signature is what makes it one.
    match secret.rsplit_once('.').filter(|_| secret.matches('.').count() == 2) {
        Some((_, signature)) => forms.push(signature.to_owned()),
        None if secret.len() > TOKEN_PART => forms.push(secret.chars().take(TOKEN_PART).collect()),
        None if secret.len() > KEY_PART => forms.push(secret.chars().take(KEY_PART).collect()),
        None => {}
    }
    let escaped =
        forms.iter().map(|form| form_urlencoded::byte_serialize(form.as_bytes()).collect::<String>());
    let quoted = forms.iter().map(|form| format!("{form:?}").trim_matches('"').to_owned());
    let html = forms.iter().map(|form| form.replace('+', "&#43;"));
    let other: Vec<_> = escaped.chain(quoted).chain(html).filter(|form| !forms.contains(form)).collect();
    forms.extend(other);
    forms
}

/// Where `Signature=` or `signature:` is followed by digits that are one.
fn signature(text: &str) -> Option<usize> {
    let is_one = |after: &str| {
        let value = after.trim_start_matches(['=', ':', ' ', '"', '\'', '\\']);
        value.bytes().take_while(u8::is_ascii_hexdigit).count() >= SIGNATURE_DIGITS
    };
    let named = text.match_indices("ignature");
    named.map(|(at, name)| (at, &text[at + name.len()..])).find(|(_, after)| is_one(after)).map(|(at, _)| at)
}

fn around(text: &str, at: usize) -> String {
    let part = &text.as_bytes()[at.saturating_sub(120)..(at + 20).min(text.len())];
    String::from_utf8_lossy(part).into_owned()
}

#[test]
fn a_planted_secret_is_found_in_each_of_its_forms() {
    let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let session = "IQoJb3JpZ2luX2VjEJr//////////wEaCWV1LXdlc3QtMSJGMEQCIHplanted+and/long==";
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLWEtdG9rZW4";
    let secrets = [key, session, token].map(str::to_owned);
    let signature = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let planted = [
        format!("secret_key={key}"),
        format!("secret_key={}…", &key[..KEY_PART]),
        "secret_key=wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCYEXAMPLEKEY&x".to_owned(),
        "<td>wJalrXUtnFEMI/K7MDENG&#43;bPxRfiCYEXAMPLEKEY</td>".to_owned(),
        format!("x-amz-security-token: {session}"),
        format!("the token begins with {}", &session[..TOKEN_PART]),
        format!(
            "SecurityToken={}…",
            form_urlencoded::byte_serialize(&session.as_bytes()[..45]).collect::<String>()
        ),
        format!("WebIdentityToken={token}"),
        "the token ends with c2lnbmF0dXJlLW9mLWEtdG9rZW4".to_owned(),
        format!("AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature={signature}"),
        format!("{{\"signature\": \"{}\"}}", &signature[..SIGNATURE_DIGITS]),
    ];
    for text in &planted {
        let mut emitted = Emitted::default();
        emitted.add("log", format!("a line before\n{text}\n"));
        assert!(!emitted.find(&secrets).is_empty(), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data/wal")).unwrap();
    std::fs::write(folder.path().join("data/wal/000001"), [b"\xff\0", key.as_bytes(), b"\0"].concat())
        .unwrap();
    std::fs::write(folder.path().join("prometheus.yml"), session).unwrap();
    let mut emitted = Emitted::default();
    emitted.add_folder(folder.path());
    assert_eq!(emitted.find(&secrets).len(), 1, "in the data, not in the configuration");

    let harmless = [
        "access_key=AKIAIOSFODNN7EXAMPLE",
        "a JSON web token has three parts; eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ are two of them",
        "the signature is for another region; AWS computed another signature than ours",
        "signature: 0123",
    ];
    let mut emitted = Emitted::default();
    harmless.iter().for_each(|text| emitted.add(*text, *text));
    emitted.assert_none_of(&secrets);
}

/// What the program really shows is found in each of its places, for it is looked at while it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_found_wherever_it_is() {
    const SHOWN: &str = "a-name-that-is-shown-everywhere";
    let mut scene = Scene::new().await;
    scene.write_to(SHOWN, WORKSPACE, "");
    scene.workspaces.set_fault(Fault::Down);
    scene.start().await;
    scene.until_waiting(SHOWN, 3).await;
    let places = scene.places_of(SHOWN).join("\n");
    let pages = ["/metrics as */*", "/ as text/html", "/ as text/plain"];
    for place in pages.into_iter().chain(["/log: "]) {
        assert!(places.contains(place), "not in {place}:\n{places}");
    }
    // What waits: a value of the farm's pages.
    let places = scene.places_of(&scene.farm.addresses()[0].to_string()).join("\n");
    assert!(places.contains("/data/") && places.contains("/api/v1/targets"), "{places}");
}

#[test]
#[should_panic(expected = "secrets are shown")]
fn a_shown_secret_fails_a_test() {
    let mut emitted = Emitted::default();
    emitted.add("status page", "hunter2-hunter2-hunter2");
    emitted.assert_none_of(&["hunter2-hunter2-hunter2".to_owned()]);
}
