//! Requests to sign: generated ones, and what has come up among them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use promferry_sigv4_auth::Scope;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::vectors::time;

/// How many requests [`generated`] gives: half from a fixed seed, half from a new one.
pub(crate) const REQUESTS: usize = 600;

/// A request before anybody signed it.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Absent: the address it is sent to.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) token: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) time: SystemTime,
}

impl Unsigned {
    /// The same for all that differ in one thing.
    pub(crate) fn plain() -> Self {
        Self {
            method: String::from("POST"),
            target: String::from("/"),
            host: Some(String::from("aps-workspaces.eu-west-1.amazonaws.com")),
            headers: Vec::new(),
            body: Vec::new(),
            token: None,
            scope: Scope { region: String::from("eu-west-1"), service: String::from("aps") },
            time: time("20261122T120000Z"),
        }
    }
}

/// [`REQUESTS`] requests; the new seed is printed, and `PROMFERRY_SEED` sets it again.
pub(crate) fn generated() -> Vec<Unsigned> {
    let given = std::env::var("PROMFERRY_SEED").ok().and_then(|seed| seed.parse().ok());
    let new =
        given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos());
    #[allow(clippy::print_stderr, reason = "what a failure is repeated with")]
    {
        eprintln!("PROMFERRY_SEED={new}");
    }
    [20_261_122, new]
        .into_iter()
        .flat_map(|seed| {
            let seed: Vec<u8> = [seed.to_le_bytes(), [0; 16]].concat();
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
            let mut runner = TestRunner::new_with_rng(Config::default(), rng);
            let strategy = unsigned();
            (0..REQUESTS / 2)
                .map(|_| strategy.new_tree(&mut runner).expect("a request").current())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn unsigned() -> impl Strategy<Value = Unsigned> {
    let method =
        prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"]);
    let host = prop::sample::select(vec![
        None,
        Some("aps-workspaces.eu-west-1.amazonaws.com"),
        Some("example.com:9443"),
        Some("xn--bcher-kva.example"),
    ]);
    let target = (path(), query()).prop_map(|(path, query)| match query.as_str() {
        "" => path,
        query => format!("{path}?{query}"),
    });
    let body = prop_oneof![
        3 => Just(Vec::new()),
        4 => any::<u8>().prop_map(|byte| vec![byte]),
        8 => prop::collection::vec(any::<u8>(), 0..300),
        4 => any::<u8>().prop_map(|byte| vec![byte; 65_536]),
        1 => any::<u8>().prop_map(|byte| vec![byte; 1_000_000]),
    ];
    let token = prop::option::of("[A-Za-z0-9/+=]{1,900}");
    let scope = ("(us-east-1|eu-west-1|cn-north-1|us-gov-west-1)", "(aps|es|execute-api|sts)")
        .prop_map(|(region, service)| Scope { region, service });
    let at = (1_420_070_400_u64..4_000_000_000).prop_map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    (method, host, target, headers(), body, token, scope, at).prop_map(
        |(method, host, target, headers, body, token, scope, time)| Unsigned {
            method: method.to_owned(),
            target,
            host: host.map(str::to_owned),
            headers,
            body,
            token,
            scope,
            time,
        },
    )
}

/// The characters that a target may hold raw; `<`, `>` and the grave accent are no URI's.
const RESERVED: &str = "!$&'()*+,;=:@[]|^\\\"{}";

/// Every character, raw and escaped, escapes of either case, of nothing and of no text, dot segments and empty ones.
/// The last segment is a name.
fn path() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => "[A-Za-z0-9._~-]",
        3 => prop::sample::select(RESERVED.chars().collect::<Vec<_>>()).prop_map(String::from),
        2 => prop::sample::select(RESERVED.chars().collect::<Vec<_>>())
            .prop_map(|character| format!("%{:02X}", u32::from(character))),
        1 => "%[0-9A-Fa-f]{2}",
        1 => Just(String::from("%")),
    ];
    let segment = prop_oneof![
        8 => prop::collection::vec(character, 0..8).prop_map(|characters| characters.concat()),
        1 => Just(String::from(".")),
        1 => Just(String::from("..")),
    ];
    let segments = prop::collection::vec(segment, 0..5);
    (segments, "[a-z]{1,6}", "/?").prop_map(|(segments, name, slash)| {
        let segments: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        format!("{segments}/{name}{slash}")
    })
}

/// Escaped as RFC 3986 says; names alone, with an empty value, repeated and in any order.
fn query() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        3 => "[A-Za-z0-9._~-]",
        2 => prop::sample::select(" !\"#$%&'()*+,/:;<=>?@[\\]^`{|}é☃".chars().collect::<Vec<_>>())
            .prop_map(|character| character.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()),
    ];
    let text =
        move || prop::collection::vec(character.clone(), 0..6).prop_map(|characters| characters.concat());
    let pair = ("[a-c]", text(), prop::option::of(text())).prop_map(|(first, name, value)| match value {
        Some(value) => format!("{first}{name}={value}"),
        None => format!("{first}{name}"),
    });
    prop::collection::vec(pair, 0..5).prop_map(|pairs| pairs.join("&"))
}

/// Those that are signed here, some twice, and those that are not.
fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "content-type",
        "content-encoding",
        "x-prometheus-remote-write-version",
        "x-amz-target",
        "x-amz-meta-a",
        "user-agent",
        "accept",
        "cookie",
        "x-scope-orgid",
        "traceparent",
    ]);
    let value = prop_oneof!["[ -~]{0,20}", "[a-z]{0,3}( {1,4}|,|, )[a-z\"=;]{0,5} {0,3}"];
    prop::collection::vec((name.prop_map(str::to_owned), value), 0..6)
}

/// What has come up, for a generator that leaves something out would prove less than it says.
#[derive(Default)]
pub(crate) struct Coverage {
    targets: String,
    methods: BTreeSet<String>,
    repeated_headers: usize,
    tokens: usize,
    large_bodies: usize,
    empty_bodies: usize,
}

impl Coverage {
    pub(crate) fn note(&mut self, request: &Unsigned) {
        self.targets.push_str(request.target.split('?').next().unwrap_or_default());
        self.methods.insert(request.method.clone());
        let names: Vec<&String> = request.headers.iter().map(|(name, _)| name).collect();
        let signed = |name: &str| name.starts_with("x-amz-") || name.starts_with("content-");
        let repeated =
            names.iter().any(|name| signed(name) && names.iter().filter(|other| other == &name).count() > 1);
        self.repeated_headers += usize::from(repeated);
        self.tokens += usize::from(request.token.is_some());
        self.large_bodies += usize::from(request.body.len() == 1_000_000);
        self.empty_bodies += usize::from(request.body.is_empty());
    }

    pub(crate) fn assert_complete(&self) {
        for reserved in RESERVED.chars() {
            assert!(self.targets.contains(reserved), "{reserved:?} raw");
            let escaped = format!("%{:02X}", u32::from(reserved));
            assert!(self.targets.to_uppercase().contains(&escaped), "{escaped}");
        }
        assert_eq!(self.methods.len(), 8);
        for count in [self.repeated_headers, self.tokens, self.large_bodies, self.empty_bodies] {
            assert!(count >= 5, "{count}");
        }
        assert!(self.tokens < REQUESTS - 100, "{}", self.tokens);
    }
}
