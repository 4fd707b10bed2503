//! Whose credentials a chain gives, and what an endpoint's answer to them means.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, Uri};

use crate::authorization::{account_of, role_of_session};
use crate::chain::Walk;
use crate::denial::{message_of, workspace_id};
use crate::failure::{Failure, FailureKind, NeededPolicy, write_refused};
use crate::policy::{provider_arn, workspace_arn};
use crate::sdk::shown;
use crate::{
    CallerIdentity, CredentialChain, CredentialError, Credentials, Denial, Explanation, NotAuthorized,
    ProviderReport, RoleStep, Scope, Secret, TokenFacts, assume_role_policy, explain_denial,
    remote_write_policy, role_trust, sts_refusal, web_identity_trust, workspace_resource_policy,
};

/// What one way through a chain of credentials came to. `Debug` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WhoAmI {
    /// What was looked at, and why each was not it.
    pub looked_at: ProviderReport,
    /// The web identity token that was used, or tried.
    pub token: Option<TokenFacts>,
    /// The role that was asked for with it.
    pub web_identity_role: Option<String>,
    /// The base, then each role that was assumed, as STS says whose credentials they are.
    pub chain: Vec<Step>,
    /// The last step's credentials; `None` where the chain was not passed to its end.
    pub credentials: Option<Credentials>,
    /// Why there are no credentials.
    pub failure: Option<Failure>,
}

/// One step of a chain.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// What gave the credentials, such as `web identity`.
    pub provider: String,
    /// The role that was assumed; `None` for a base whose role nobody told.
    pub role_arn: Option<String>,
    /// Whether an external id was given.
    pub external_id_given: bool,
    /// When its credentials end; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// Whose they are, as STS answered.
    pub identity: Result<CallerIdentity, CredentialError>,
}

impl Step {
    /// The ARN that trust policies and others name this identity by: the role's, with its path where that is known;
    /// of a user its own.
    pub fn principal_arn(&self) -> Option<String> {
        Some(self.principal()?.arn)
    }

    fn principal(&self) -> Option<Principal> {
        match &self.role_arn {
            Some(role_arn) => Some(Principal::named(role_arn)),
            None => Some(Principal::told(&self.identity.as_ref().ok()?.arn)),
        }
    }
}

/// Whom policies name.
struct Principal {
    arn: String,
    /// It is a role that only a session's ARN told of, which leaves the role's path out.
    may_lack_path: bool,
}

impl Principal {
    fn named(arn: &str) -> Self {
        Self { arn: arn.to_owned(), may_lack_path: false }
    }

    fn told(arn: &str) -> Self {
        match role_of_session(arn) {
            Some(role) => Self { arn: role, may_lack_path: true },
            None => Self::named(arn),
        }
    }

    fn unknown() -> Self {
        Self::named("IDENTITY")
    }

    /// Of a policy that names it: IAM takes none with the name of a role that is not there.
    fn note(&self) -> Option<String> {
        self.may_lack_path.then(|| {
            format!(
                "STS does not tell a role's path: if IAM shows {} with one (/PATH/ before its name), write it so",
                self.arn
            )
        })
    }
}

impl CredentialChain {
    /// Goes through the chain once, asks STS after each step whose credentials these are, and finds out what is
    /// missing where it ends early. It gets nothing from a cache and keeps nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use promferry_sigv4_auth::{CredentialChain, CredentialsConfig, Environment, FailureKind};
    ///
    /// // A pod on Fargate whose service account has no role.
    /// let environment = Environment::from_pairs([("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")]);
    /// let chain = CredentialChain::new(&CredentialsConfig::default(), environment, "eu-west-1")?;
    /// let who = chain.who_am_i().await;
    /// assert_eq!(who.failure.expect("no credentials").kind, FailureKind::NoProvider);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn who_am_i(&self) -> WhoAmI {
        let (walk, result) = self.walk().await;
        let token = walk.web_identity.as_ref().and_then(|(file, _)| TokenFacts::read(file));
        let mut chain = Vec::with_capacity(walk.passed.len());
        for passed in &walk.passed {
            let credentials = &passed.credentials;
            let provider = credentials.provider();
            chain.push(Step {
                provider: provider.split(" arn:").next().unwrap_or(provider).to_owned(),
                role_arn: passed.role_arn.clone(),
                external_id_given: passed.external_id_given,
                expires_at: credentials.expires_at(),
                identity: self.caller_identity(credentials).await,
            });
        }
        let (credentials, failure) = match result {
            Ok(credentials) => (Some(credentials), None),
            Err(error) => (None, Some(self.why(&error, &walk, token.as_ref(), &chain).await)),
        };
        let web_identity_role = walk.web_identity.map(|(_, role_arn)| role_arn);
        WhoAmI { looked_at: walk.report, token, web_identity_role, chain, credentials, failure }
    }

    /// Every policy that the whole way needs, from the base to a write at `endpoint`, whether it is there or not and
    /// however far the way led: what is to be set up for a pod, its roles and its workspace. What nobody told is
    /// written as `IDENTITY`, `ACCOUNT` and `WORKSPACE`. Where the workspace is another account's than the last
    /// role's, its resource policy has to let that role write besides.
    pub fn needed_policies(&self, who: &WhoAmI, endpoint: Option<&Uri>, scope: &Scope) -> Vec<NeededPolicy> {
        let mut needed = Vec::new();
        if let (Some(role_arn), Some(token)) = (&who.web_identity_role, &who.token) {
            needed.push(web_identity_trust_of(role_arn, token));
        }
        let base = who.chain.first();
        let named = who.web_identity_role.as_deref().map(Principal::named);
        let mut caller = named.or_else(|| base?.principal()).unwrap_or_else(Principal::unknown);
        let mut with_tags = base.is_some_and(|base| self.base_has_session_tags(&base.provider));
        for role in self.assumed_roles() {
            if caller.arn != role.role_arn {
                needed.extend(policies_to_assume(&caller, role, with_tags));
            }
            caller = Principal::named(&role.role_arn);
            with_tags = false;
        }
        if let Some(endpoint) = endpoint {
            let id = workspace_id(endpoint).unwrap_or("WORKSPACE");
            needed.push(NeededPolicy {
                place: format!("a policy of {}", caller.arn),
                note: None,
                json: remote_write_policy(&workspace_arn(&scope.region, account_of(&caller.arn), id)),
            });
        }
        needed
    }

    async fn why(
        &self,
        error: &CredentialError,
        walk: &Walk,
        token: Option<&TokenFacts>,
        chain: &[Step],
    ) -> Failure {
        match error {
            CredentialError::NotFound { .. } => Failure::new(
                FailureKind::NoProvider,
                "nothing that gives credentials is configured. On EKS: annotate the pod's service account with \
                 eks.amazonaws.com/role-arn (IRSA; the only way on Fargate), or make an EKS Pod Identity association \
                 for it; then start the pod anew, for it gets its variables and token when it is made",
            ),
            CredentialError::Unreachable { endpoint, reason, .. } => Failure::of_route(endpoint, reason)
                .await
                .unwrap_or_else(|| Failure::new(FailureKind::Provider, error.to_string())),
            CredentialError::NotSts { .. } => Failure::new(FailureKind::Sts, error.to_string()),
            CredentialError::Refused { code, message, advice, request_id, .. } => {
                let (kind, needed) = match (&walk.failed_at, walk.passed.last(), &walk.web_identity) {
                    (Some(role), Some(passed), _) => {
                        let (kind, _) = sts_refusal::of_assume_role(code, message, &passed.credentials, role);
                        let with_tags = walk.passed.len() == 1
                            && self.base_has_session_tags(passed.credentials.provider());
                        let needed = needed_to_assume(&kind, message, role, chain.last(), with_tags);
                        (kind, needed)
                    }
                    (_, _, Some((file, role_arn))) => {
                        let known = token.cloned().unwrap_or_default();
                        let (kind, _) = sts_refusal::of_web_identity(code, message, role_arn, &known, file);
                        // Without an identity provider for the token's issuer and audience no policy helps.
                        let needed = token.filter(|_| kind == FailureKind::RoleTrust);
                        let needed = needed.map(|token| web_identity_trust_of(role_arn, token));
                        let needed = needed.into_iter().collect();
                        (kind, needed)
                    }
                    _ => (FailureKind::Sts, Vec::new()),
                };
                let answer = format!("{code}: {message}");
                let what = advice.clone().unwrap_or_else(|| format!("STS refuses: {answer}"));
                let request_id = request_id.clone();
                Failure { answer: Some(answer), request_id, needed, ..Failure::new(kind, what) }
            }
            other => Failure::new(FailureKind::Provider, other.to_string()),
        }
    }
}

impl WhoAmI {
    /// What an endpoint's answer to a write, of no series or of any, says of this identity: `None` where it was let
    /// in, whatever else the endpoint thinks of what was written; else why it was not, and which policy would have
    /// to be there.
    pub fn judge(
        &self,
        endpoint: &Uri,
        scope: &Scope,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Failure> {
        // Some endpoints answer with all that they were asked.
        let body = &*self.without_secrets(body);
        let explanation = match status {
            // Some of AWS' services refuse an identity so ("Common Errors" of their API references).
            StatusCode::BAD_REQUEST => explain_denial(StatusCode::FORBIDDEN, body, headers, endpoint)
                .filter(|explanation| explanation.denial != Denial::Other),
            _ => explain_denial(status, body, headers, endpoint),
        };
        if let Some(explanation) = explanation {
            return Some(self.denied(&explanation, endpoint, scope, body));
        }
        // AMP looks at what was written, and at its limits, only of those who may write.
        if status.is_success() || status == StatusCode::BAD_REQUEST || status == StatusCode::TOO_MANY_REQUESTS
        {
            return None;
        }
        let what = match status {
            _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => format!(
                "the endpoint answers {status}: whether this identity may write shows only when it works again"
            ),
            _ if status.is_redirection() => {
                format!("the endpoint answers {status} and leads elsewhere: is this the URL of remote write?")
            }
            _ => format!("the endpoint answers {status}: is this the URL of remote write?"),
        };
        let answer = Some(shown(&String::from_utf8_lossy(&body[..body.len().min(4096)])));
        let answer = answer.filter(|text| !text.is_empty());
        Some(Failure { answer, ..Failure::new(FailureKind::Endpoint, what) })
    }

    /// The ARN that policies name the last step's identity by.
    pub fn principal_arn(&self) -> Option<String> {
        self.chain.last()?.principal_arn()
    }

    fn without_secrets(&self, body: &[u8]) -> Vec<u8> {
        let Some(credentials) = &self.credentials else { return body.to_vec() };
        let secrets = [Some(credentials.secret_key()), credentials.session_token()];
        let secrets = secrets.into_iter().flatten().map(Secret::expose).filter(|secret| !secret.is_empty());
        let text = String::from_utf8_lossy(body).into_owned();
        secrets.fold(text, |text, secret| text.replace(secret, "<secret>")).into_bytes()
    }

    fn denied(&self, explanation: &Explanation, endpoint: &Uri, scope: &Scope, body: &[u8]) -> Failure {
        if let Some(refused) = &explanation.not_authorized {
            let (kind, why) = write_refused(refused);
            let action = refused.action.as_deref().unwrap_or("aps:RemoteWrite");
            return Failure {
                answer: Some(shown(&message_of(body))),
                request_id: explanation.request_id.clone(),
                needed: self.needed_to_write(&kind, refused, endpoint, scope),
                ..Failure::new(kind, format!("{} is refused: {why}", shown(action)))
            };
        }
        let request_id = explanation.request_id.clone();
        let kind = match explanation.denial {
            Denial::WorkspaceNotFound => {
                let account =
                    self.chain.last().and_then(|step| Some(step.identity.as_ref().ok()?.account.as_str()));
                let what = format!(
                    "account {}, which this identity is of, has no workspace {} in {}: write through a role of the \
                     workspace's account (role_arn), or put region and workspace id in the url right",
                    account.unwrap_or("unknown"),
                    shown(workspace_id(endpoint).unwrap_or("of that name")),
                    scope.region,
                );
                let answer = Some(shown(&message_of(body)));
                return Failure { answer, request_id, ..Failure::new(FailureKind::WorkspaceNotFound, what) };
            }
            Denial::ClockSkew => FailureKind::ClockSkew,
            Denial::ExpiredToken | Denial::UnknownKey => FailureKind::Keys,
            Denial::SignatureMismatch | Denial::IncompleteSignature | Denial::WrongScope => {
                FailureKind::Signature
            }
            _ => FailureKind::Endpoint,
        };
        // What AWS says of a wrong signature quotes the session token; its first words are in the explanation.
        Failure { request_id, ..Failure::new(kind, &explanation.message) }
    }

    fn needed_to_write(
        &self,
        kind: &FailureKind,
        refused: &NotAuthorized,
        endpoint: &Uri,
        scope: &Scope,
    ) -> Vec<NeededPolicy> {
        let workspace = refused.resource.clone().unwrap_or_else(|| {
            let identity = self.chain.last().and_then(|step| step.identity.as_ref().ok());
            let account = identity.map(|identity| identity.account.as_str());
            // The workspace may be another account's then.
            let account = account.filter(|_| *kind != FailureKind::IdentityOrResourcePolicy);
            workspace_arn(&scope.region, account, workspace_id(endpoint).unwrap_or("WORKSPACE"))
        });
        let told = || refused.principal.as_deref().map(Principal::told);
        let principal = self.chain.last().and_then(Step::principal).or_else(told);
        let principal = principal.unwrap_or_else(Principal::unknown);
        let of_identity = || NeededPolicy {
            place: format!("a policy of {}", principal.arn),
            note: None,
            json: remote_write_policy(&workspace),
        };
        let of_workspace = || NeededPolicy {
            place: format!("resource policy of {workspace}"),
            note: principal.note(),
            json: workspace_resource_policy(&principal.arn, &workspace),
        };
        match kind {
            FailureKind::IdentityPolicy if refused.crosses_accounts() => vec![of_identity(), of_workspace()],
            FailureKind::IdentityPolicy => vec![of_identity()],
            FailureKind::ResourcePolicy => vec![of_workspace()],
            FailureKind::IdentityOrResourcePolicy => vec![of_identity(), of_workspace()],
            FailureKind::PermissionsBoundary | FailureKind::SessionPolicy if !refused.explicit_deny => {
                let place = match kind {
                    FailureKind::SessionPolicy => format!("session policy of {}", principal.arn),
                    _ => format!("permissions boundary of {}", principal.arn),
                };
                vec![NeededPolicy { place, note: None, json: remote_write_policy(&workspace) }]
            }
            _ => Vec::new(),
        }
    }
}

fn needed_to_assume(
    kind: &FailureKind,
    message: &str,
    role: &RoleStep,
    caller: Option<&Step>,
    with_tags: bool,
) -> Vec<NeededPolicy> {
    let refused = NotAuthorized::parse(message);
    let with_tags = with_tags || refused.action.as_deref() == Some("sts:TagSession");
    let told = || refused.principal.as_deref().map(Principal::told);
    let Some(caller) = caller.and_then(Step::principal).or_else(told) else { return Vec::new() };
    let [of_caller, of_role] = policies_to_assume(&caller, role, with_tags);
    match kind {
        // Within one account a trust policy that names the role itself is enough; across accounts both are needed.
        FailureKind::CallerPolicy if account_of(&caller.arn) != account_of(&role.role_arn) => {
            vec![of_caller, of_role]
        }
        FailureKind::CallerPolicy => vec![of_caller],
        FailureKind::RoleTrust => vec![of_role],
        FailureKind::CallerPolicyOrRoleTrust => vec![of_caller, of_role],
        _ => Vec::new(),
    }
}

/// The caller's, and the role's.
fn policies_to_assume(caller: &Principal, role: &RoleStep, with_tags: bool) -> [NeededPolicy; 2] {
    [
        NeededPolicy {
            place: format!("a policy of {}", caller.arn),
            note: None,
            json: assume_role_policy(&role.role_arn, with_tags),
        },
        NeededPolicy {
            place: format!("trust policy of {}", role.role_arn),
            note: caller.note(),
            json: role_trust(&caller.arn, role.external_id.as_deref(), with_tags),
        },
    ]
}

fn web_identity_trust_of(role_arn: &str, token: &TokenFacts) -> NeededPolicy {
    NeededPolicy {
        place: format!("trust policy of {role_arn}"),
        note: None,
        json: web_identity_trust(&provider_arn(role_arn, token.issuer_name()), token),
    }
}
