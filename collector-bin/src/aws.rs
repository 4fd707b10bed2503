//! `promferry aws`: the AWS side, looked at from where it runs.

mod json;
mod text;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use promferry_config::Config;
use promferry_http_client::{Client, Error, Http, HttpClientConfig, HttpOptions, KeepMethod};
use promferry_remote_write::RemoteWriteConfig;
use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialChain, Credentials, Environment, Failure, FailureKind, NeededPolicy,
    Reach, Scope, SigV4Config, SigV4Layer, WhoAmI, reach_directly,
};
use tower::{Layer as _, ServiceExt as _};

use crate::check;
use crate::cli::WhoamiArgs;

/// Exit status where the question itself is wrong.
const CANNOT_ASK: u8 = 2;
/// To connect, and for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A remote write of no series: Snappy's block of nothing.
const NO_SERIES: &[u8] = &[0];
const ANSWER_LIMIT_BYTES: usize = 64 << 10;

/// `promferry aws whoami`: says for each signed endpoint with whose credentials it writes, where they come from, and
/// whether they may; where not, what is missing. Exit status 0 when all of them could write, 1 when one could not, 2
/// when the question is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
pub fn whoami(args: &WhoamiArgs) -> ExitCode {
    let environment = Environment::process();
    let questions = match questions(args, &environment) {
        Ok(questions) => questions,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(CANNOT_ASK);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime can't be started: {error}");
            return ExitCode::from(CANNOT_ASK);
        }
    };
    // Beside each other: what is not reached takes its time.
    let asked: Vec<_> =
        questions.into_iter().map(|question| runtime.spawn(question.ask(args.no_write))).collect();
    let mut answers = Vec::new();
    for answer in asked {
        match runtime.block_on(answer) {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(CANNOT_ASK);
            }
        }
    }
    // A look-up of a name that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let now = SystemTime::now();
    let text = if args.json { json::of(&answers) } else { text::of(&answers, args.policies, now) };
    print!("{text}");
    if answers.iter().all(Answer::is_right) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is asked for one endpoint.
struct Question {
    name: Option<String>,
    target: Option<Target>,
    scope: Scope,
    chain: CredentialChain,
    clock: Clock,
}

/// Where a write goes, and how.
struct Target {
    url: Uri,
    /// Without what may be secret in it.
    shown_url: String,
    headers: HeaderMap,
    http: Http,
    has_proxy: bool,
}

/// What was found out for one endpoint.
struct Answer {
    name: Option<String>,
    url: Option<String>,
    scope: Scope,
    who: WhoAmI,
    /// Of this machine's clock to AWS', positive where AWS is ahead.
    clock_offset_ms: i64,
    write: Write,
    /// All that the whole way needs, whether it is there or not.
    policies: Vec<NeededPolicy>,
}

/// What came of the write.
enum Write {
    NotAsked,
    LetIn(StatusCode),
    Refused(Failure),
    /// It was not found out: what was asked was not reached, or does not work.
    Unknown(Failure),
}

impl Answer {
    fn failure(&self) -> Option<&Failure> {
        match &self.write {
            Write::Refused(failure) | Write::Unknown(failure) => Some(failure),
            Write::NotAsked | Write::LetIn(_) => self.who.failure.as_ref(),
        }
    }

    /// Whether nothing that was asked is in the way of writing.
    fn is_right(&self) -> bool {
        let is_known = || self.who.chain.last().is_some_and(|step| step.identity.is_ok());
        self.failure().is_none() && (matches!(self.write, Write::LetIn(_)) || is_known())
    }
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
enum QuestionError {
    #[error("{0}\n{excerpt}", excerpt = .0.excerpt())]
    Config(promferry_config::ConfigError),
    #[error("remote_write {endpoint}: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("the configuration has no remote_write entry called {0:?}")]
    NoSuchEndpoint(String),
    #[error("no remote_write entry of the configuration has a sigv4 block: nothing is signed")]
    NothingIsSigned,
    #[error("{0}")]
    Options(String),
}

#[expect(clippy::print_stderr, reason = "a part of the command's answer")]
fn questions(args: &WhoamiArgs, environment: &Environment) -> Result<Vec<Question>, QuestionError> {
    match &args.config_file {
        Some(file) => {
            let config = check::load_file(file).map_err(QuestionError::Config)?;
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            of_config(&config, &args.endpoints, environment)
        }
        None => Ok(vec![of_options(args, environment)?]),
    }
}

fn of_config(
    config: &Config,
    names: &[String],
    environment: &Environment,
) -> Result<Vec<Question>, QuestionError> {
    let mut asked = Vec::new();
    for name in names {
        let known = config.remote_write.iter().find(|endpoint| endpoint.write.key() == *name);
        asked.push(known.ok_or_else(|| QuestionError::NoSuchEndpoint(name.clone()))?);
    }
    if names.is_empty() {
        asked.extend(config.remote_write.iter().filter(|endpoint| endpoint.sigv4.is_some()));
    }
    let mut questions = Vec::new();
    for endpoint in asked {
        let key = endpoint.write.key();
        let wrong = |reason: String| QuestionError::Endpoint { endpoint: key.clone(), reason };
        let Some(sigv4) = &endpoint.sigv4 else {
            return Err(wrong(String::from("has no sigv4 block: nothing is signed")));
        };
        let url: Uri = endpoint.write.url.parse().map_err(|error| wrong(format!("url: {error}")))?;
        let options = HttpOptions { connect_timeout: CONNECT_TIMEOUT, ..HttpOptions::default() };
        let http = Http::new(&endpoint.http, options).map_err(|error| wrong(error.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.write.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
                headers.insert(name, value);
            }
        }
        let has_proxy = !endpoint.http.proxy_url.is_empty() || endpoint.http.proxy_from_environment;
        let target = Target { url, shown_url: endpoint.write.shown_url(), headers, http, has_proxy };
        questions.push(Question::new(Some(key.clone()), Some(target), sigv4, environment).map_err(wrong)?);
    }
    if questions.is_empty() {
        return Err(QuestionError::NothingIsSigned);
    }
    Ok(questions)
}

fn of_options(args: &WhoamiArgs, environment: &Environment) -> Result<Question, QuestionError> {
    let sigv4 = SigV4Config {
        region: args.region.clone(),
        role_arn: args.role_arn.clone(),
        external_id: args.external_id.clone(),
        ..SigV4Config::default()
    };
    let target = match &args.url {
        None => None,
        Some(url) => {
            let shown_url =
                RemoteWriteConfig { url: url.clone(), ..RemoteWriteConfig::default() }.shown_url();
            let url: Uri = url.parse().map_err(|error| QuestionError::Options(format!("--url: {error}")))?;
            let options = HttpOptions { connect_timeout: CONNECT_TIMEOUT, ..HttpOptions::default() };
            let http = Http::new(&HttpClientConfig::default(), options)
                .map_err(|error| QuestionError::Options(error.to_string()))?;
            Some(Target { url, shown_url, headers: HeaderMap::new(), http, has_proxy: false })
        }
    };
    Question::new(None, target, &sigv4, environment).map_err(QuestionError::Options)
}

impl Question {
    fn new(
        name: Option<String>,
        target: Option<Target>,
        sigv4: &SigV4Config,
        environment: &Environment,
    ) -> Result<Self, String> {
        sigv4.validate().map_err(|error| format!("sigv4.{error}"))?;
        let host = target.as_ref().and_then(|target| target.url.host()).unwrap_or_default();
        let scope = sigv4.scope(host, environment).map_err(|error| match &target {
            Some(_) => error.to_string(),
            None => String::from("which region? Set --region or AWS_REGION"),
        })?;
        let clock = Clock::system();
        let chain = CredentialChain::new(&sigv4.credentials(), environment.clone(), &scope.region)
            .map_err(|error| format!("sigv4.{error}"))?
            .with_clock(clock.clone());
        Ok(Self { name, target, scope, chain, clock })
    }

    async fn ask(self, no_write: bool) -> Answer {
        let who = self.chain.who_am_i().await;
        let url = self.target.as_ref().map(|target| &target.url);
        let policies = self.chain.needed_policies(&who, url, &self.scope);
        let write = match (&self.target, &who.credentials) {
            (Some(target), Some(credentials)) if !no_write => {
                let layer = self.layer(credentials.clone());
                target.write(&layer, &who).await
            }
            _ => Write::NotAsked,
        };
        Answer {
            name: self.name,
            url: self.target.map(|target| target.shown_url),
            scope: self.scope,
            who,
            clock_offset_ms: self.clock.offset_ms(),
            write,
            policies,
        }
    }

    fn layer(&self, credentials: Credentials) -> SigV4Layer {
        SigV4Layer::new(self.scope.clone(), CachedCredentials::new(credentials, self.clock.clone()))
    }
}

impl Target {
    /// Writes no series: whether one may is looked at before what.
    async fn write(&self, layer: &SigV4Layer, who: &WhoAmI) -> Write {
        let mut request = Request::new(Bytes::from_static(NO_SERIES));
        // As delivery sends them: a page to log in at, got in place of the write, is no answer to it.
        request.extensions_mut().insert(KeepMethod);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        for (name, value) in [
            (CONTENT_TYPE, "application/x-protobuf"),
            (CONTENT_ENCODING, "snappy"),
            (http::HeaderName::from_static("x-prometheus-remote-write-version"), "0.1.0"),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let answer = async {
            let response = layer.layer(Client::new(self.http.clone())).oneshot(request).await?;
            let (head, body) = response.into_parts();
            // What an answer lacks of its body is not worth a failure: its status says most.
            let body = body.read_to_end(ANSWER_LIMIT_BYTES).await.unwrap_or_default();
            Ok::<_, promferry_sigv4_auth::Error<Error>>((head, body))
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok((head, body))) => {
                match who.judge(&self.url, layer.scope(), head.status, &head.headers, &body) {
                    None => Write::LetIn(head.status),
                    Some(failure) if is_out_of_order(head.status) => Write::Unknown(failure),
                    Some(failure) => Write::Refused(failure),
                }
            }
            Ok(Err(promferry_sigv4_auth::Error::Inner(error))) => {
                Write::Unknown(self.no_answer(&error).await)
            }
            Ok(Err(error)) => Write::Unknown(Failure::new(FailureKind::Provider, error.to_string())),
            Err(_) => {
                let reason = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                let found = Reach::Answers { private: false };
                Write::Unknown(Failure::of_reach(&self.url, found, &reason))
            }
        }
    }

    async fn no_answer(&self, error: &Error) -> Failure {
        let found = match error {
            Error::Dns { .. } => Reach::NoSuchName,
            Error::Tls { reason, .. } => Reach::Tls(reason.clone()),
            Error::Proxy { proxy, reason } => Reach::Proxy { proxy: proxy.clone(), reason: reason.clone() },
            // Only the address tells whose gate is closed.
            Error::Connect { .. } | Error::Timeout { .. } if !self.has_proxy => {
                reach_directly(&self.url).await
            }
            Error::Connect { .. } | Error::Timeout { .. } | Error::Closed { .. } | Error::Exchange { .. } => {
                Reach::Answers { private: false }
            }
            other => return Failure::new(FailureKind::Endpoint, other.to_string()),
        };
        Failure::of_reach(&self.url, found, &error.to_string())
    }
}

/// Such an answer says nothing of who asked.
fn is_out_of_order(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT
}
