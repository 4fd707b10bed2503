//! The accounts: roles, users, identity providers, and the keys that are known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use promferry_sigv4_auth::Scope;
use promferry_sigv4_auth::verify::{KnownKey, Verifier, VerifyError};

use crate::arn::{RoleArn, account_of};
use crate::memory::Memory;
use crate::moto::Moto;
use crate::world_time::WorldTime;
use crate::{Caller, Issuer, Policy, random};

/// AWS' accounts: what IAM knows and which keys are valid. Clones share everything.
///
/// Accounts need not be made: an ARN's account exists.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Inner>,
}

/// Long-lived keys of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// `AKIA…`.
    pub access_key_id: String,
    /// Forty characters.
    pub secret_access_key: String,
}

struct Inner {
    store: Store,
    time: WorldTime,
    known: Arc<Mutex<Known>>,
}

/// Where roles, users' policies and providers are.
enum Store {
    Memory(Mutex<Memory>),
    Moto(Moto),
}

/// Keys that were given out, and what has to stay out of logs.
#[derive(Default)]
struct Known {
    keys: BTreeMap<String, Issued>,
    issuers: BTreeMap<String, Issuer>,
    secrets: BTreeSet<String>,
}

#[derive(Clone)]
struct Issued {
    key: KnownKey,
    identity: Identity,
}

/// Whose a key is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) caller: Caller,
    /// `AIDA…`, or `AROA…:SESSION`.
    pub(crate) user_id: String,
    /// The account in which the chain of roles began.
    pub(crate) origin_account: String,
}

/// A role as IAM has it.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) trust: Policy,
    pub(crate) permissions: Option<Policy>,
    pub(crate) max_session: Duration,
    pub(crate) role_id: String,
}

/// Keys of a session, as a store made them.
pub(crate) struct SessionKeys {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
}

/// A session that STS gives.
pub(crate) struct Session {
    pub(crate) keys: SessionKeys,
    pub(crate) expires_at: SystemTime,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

impl Cloud {
    /// With everything in this process.
    pub fn memory() -> Self {
        Self::over(Store::Memory(Mutex::default()))
    }

    /// With roles, their policies and the identity providers in a moto server, read from there anew at each call, and
    /// with keys that moto gives out. What is refused is decided here all the same.
    pub fn moto(moto: Moto) -> Self {
        Self::over(Store::Moto(moto))
    }

    fn over(store: Store) -> Self {
        Self { inner: Arc::new(Inner { store, time: WorldTime::default(), known: Arc::default() }) }
    }

    /// Makes a role, or replaces the one of this ARN.
    ///
    /// # Panics
    /// What IAM would refuse: an ARN that is no role's, a trust policy with a statement that has no `Principal`, that has a
    /// `Resource` or that is not about STS alone, permissions with a `Principal` or without a `Resource`, a `max_session`
    /// outside of one hour to twelve.
    pub async fn add_role(
        &self,
        arn: &str,
        trust: Policy,
        permissions: Option<Policy>,
        max_session: Duration,
    ) {
        assert!(RoleArn::parse(arn).is_some(), "{arn:?} is no role's ARN");
        assert!(
            (3_600..=43_200).contains(&max_session.as_secs()),
            "IAM takes 1 to 12 hours, not {max_session:?}"
        );
        check_trust(&trust);
        permissions.iter().for_each(check_permissions);
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).put_role(arn, trust, permissions, max_session),
            Store::Moto(moto) => moto.put_role(arn, &trust, permissions.as_ref(), max_session).await,
        }
    }

    /// Replaces a role's trust policy: sessions that exist go on.
    ///
    /// # Panics
    /// Where there is no such role, and for what [`add_role`](Self::add_role) does not take.
    pub async fn set_trust(&self, arn: &str, trust: Policy) {
        check_trust(&trust);
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).role_mut(arn).trust = trust,
            Store::Moto(moto) => moto.set_trust(arn, &trust).await,
        }
    }

    /// Replaces a role's permissions, which hold from the next request on.
    ///
    /// # Panics
    /// Where there is no such role, and for what [`add_role`](Self::add_role) does not take.
    pub async fn set_permissions(&self, arn: &str, permissions: Option<Policy>) {
        permissions.iter().for_each(check_permissions);
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).role_mut(arn).permissions = permissions,
            Store::Moto(moto) => moto.set_permissions(arn, permissions.as_ref()).await,
        }
    }

    /// The trust policy and the permissions of a role, where there is one.
    pub async fn policies_of(&self, role_arn: &str) -> Option<(Policy, Option<Policy>)> {
        let role = self.role(role_arn).await?;
        Some((role.trust, role.permissions))
    }

    /// Makes an IAM OIDC provider: an account takes this issuer's tokens for these audiences. The issuer's time is this
    /// cloud's from now on.
    pub async fn add_provider(&self, account: &str, issuer: &Issuer, client_ids: &[&str]) {
        issuer.live_in(&self.inner.time);
        self.known().issuers.insert(issuer.url().to_owned(), issuer.clone());
        let arn = issuer.provider_arn(account);
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).put_provider(&arn, client_ids),
            Store::Moto(moto) => moto.put_provider(&arn, issuer.url(), client_ids).await,
        }
    }

    /// Makes a user with keys that last, or gives the one of this ARN other permissions and further keys.
    ///
    /// # Panics
    /// For an ARN that is no user's, and for permissions that [`add_role`](Self::add_role) does not take.
    pub async fn add_user(&self, arn: &str, permissions: Policy) -> Keys {
        assert!(arn.contains(":user/") && account_of(arn).len() == 12, "{arn:?} is no user's ARN");
        check_permissions(&permissions);
        let (keys, user_id) = match &self.inner.store {
            Store::Memory(memory) => locked(memory).put_user(arn, permissions),
            Store::Moto(moto) => moto.put_user(arn, &permissions).await,
        };
        let identity =
            Identity { caller: Caller::user(arn), user_id, origin_account: account_of(arn).to_owned() };
        let mut known = self.known();
        known.secrets.insert(keys.secret_access_key.clone());
        let key = KnownKey::new(&keys.secret_access_key);
        known.keys.insert(keys.access_key_id.clone(), Issued { key, identity });
        keys
    }

    /// Lets every session of a role that exists now be expired.
    pub fn expire_sessions(&self, role_arn: &str) {
        let now = self.now();
        for issued in self.known().keys.values_mut() {
            let is_of_role =
                matches!(&issued.identity.caller, Caller::Session { role_arn: role, .. } if role == role_arn);
            if is_of_role {
                issued.key.expires_at = Some(now);
            }
        }
    }

    /// Moves AWS' clock against this machine's, milliseconds: positive where AWS is ahead. The `Date` of answers, the
    /// window in which signatures are taken, expiries and identity tokens follow.
    pub fn set_clock(&self, shift_ms: i64) {
        self.inner.time.shift_by(shift_ms);
    }

    /// AWS' time.
    pub fn now(&self) -> SystemTime {
        self.inner.time.now()
    }

    /// Every secret key, session token and identity token that was made or seen here so far: none may be in a log.
    pub fn secrets(&self) -> Vec<String> {
        let known = self.known();
        let mut secrets = known.secrets.clone();
        secrets.extend(known.issuers.values().flat_map(Issuer::tokens));
        secrets.into_iter().collect()
    }

    pub(crate) fn time(&self) -> WorldTime {
        self.inner.time.clone()
    }

    /// Remembers what a caller sent.
    pub(crate) fn saw_secret(&self, secret: &str) {
        if !secret.is_empty() {
            self.known().secrets.insert(secret.to_owned());
        }
    }

    /// Checks a signature, its key and its session token, by AWS' clock.
    pub(crate) fn verify(&self, head: &Parts, body: &Bytes, scope: Scope) -> Result<Identity, VerifyError> {
        let known = Arc::clone(&self.inner.known);
        let lookup =
            move |access_key: &str| locked(&known).keys.get(access_key).map(|issued| issued.key.clone());
        let access_key = Verifier::new(lookup).for_scope(scope).verify(head, body, self.now())?;
        let known = self.known();
        known.keys.get(&access_key).map(|issued| issued.identity.clone()).ok_or(VerifyError::UnknownKey)
    }

    pub(crate) async fn role(&self, arn: &str) -> Option<Role> {
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).role(arn),
            Store::Moto(moto) => moto.role(arn).await,
        }
    }

    /// The client ids of an identity provider, where an account has it.
    pub(crate) async fn client_ids(&self, provider_arn: &str) -> Option<Vec<String>> {
        match &self.inner.store {
            Store::Memory(memory) => locked(memory).client_ids(provider_arn),
            Store::Moto(moto) => moto.client_ids(provider_arn).await,
        }
    }

    pub(crate) fn issuer(&self, url: &str) -> Option<Issuer> {
        self.known().issuers.get(url).cloned()
    }

    /// The policies of an identity itself.
    pub(crate) async fn identity_policies(&self, identity: &Identity) -> Vec<Policy> {
        match &identity.caller {
            Caller::Session { role_arn, .. } => {
                self.role(role_arn).await.and_then(|role| role.permissions).into_iter().collect()
            }
            Caller::User { arn } => match &self.inner.store {
                Store::Memory(memory) => locked(memory).user_policies(arn),
                Store::Moto(moto) => moto.user_policies(arn).await,
            },
            Caller::WebIdentity { .. } => Vec::new(),
        }
    }

    /// Gives out a session of a role.
    pub(crate) async fn issue(
        &self,
        role_arn: &str,
        role: &Role,
        session_name: &str,
        lifetime: Duration,
        origin_account: &str,
    ) -> Session {
        let keys = match &self.inner.store {
            Store::Memory(_) => SessionKeys {
                access_key_id: random::identifier("ASIA"),
                secret_access_key: random::secret_key(),
                session_token: random::session_token(),
            },
            Store::Moto(moto) => moto.issue(role_arn, session_name).await,
        };
        let expires_at = self.now() + lifetime;
        let caller = Caller::session(role_arn, session_name);
        let arn = caller.arn().to_owned();
        let user_id = format!("{}:{session_name}", role.role_id);
        let identity =
            Identity { caller, user_id: user_id.clone(), origin_account: origin_account.to_owned() };
        let mut known = self.known();
        known.secrets.extend([keys.secret_access_key.clone(), keys.session_token.clone()]);
        let key = KnownKey::temporary(&keys.secret_access_key, &keys.session_token, expires_at);
        known.keys.insert(keys.access_key_id.clone(), Issued { key, identity });
        Session { keys, expires_at, arn, user_id }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.inner.known)
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = match &self.inner.store {
            Store::Memory(_) => "memory",
            Store::Moto(_) => "moto",
        };
        f.debug_struct("Cloud")
            .field("store", &store)
            .field("keys", &self.known().keys.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

fn check_trust(policy: &Policy) {
    assert!(
        policy.is_trust(),
        "a trust policy's statements have a Principal, actions of STS and no Resource: {}",
        policy.as_str()
    );
}

fn check_permissions(policy: &Policy) {
    assert!(
        policy.is_of_identity(),
        "an identity policy's statements have a Resource and no Principal: {}",
        policy.as_str()
    );
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
