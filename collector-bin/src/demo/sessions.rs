//! The sessions that the demo's STS gives keys of, and its receiver knows.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use promferry_model::{Rng as _, SeededRng};
use promferry_sigv4_auth::verify::KnownKey;

/// The sessions that were opened. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

struct Session {
    secret_key: String,
    token: String,
    ends_at: SystemTime,
}

/// A session's keys as STS gives them.
pub(super) struct SessionKeys {
    pub(super) access_key_id: String,
    pub(super) secret_key: String,
    pub(super) token: String,
    pub(super) ends_at: SystemTime,
}

impl Sessions {
    /// Opens one with keys by chance.
    pub(super) fn open(&self, lifetime: Duration) -> SessionKeys {
        let mut rng = SeededRng::from_process();
        let mut hex =
            |words: usize| -> String { (0..words).map(|_| format!("{:016x}", rng.next_u64())).collect() };
        let access_key_id = format!("ASIA{}", hex(1).to_uppercase());
        let (secret_key, token) = (hex(3), hex(16));
        let ends_at = SystemTime::now() + lifetime;
        let session = Session { secret_key: secret_key.clone(), token: token.clone(), ends_at };
        self.lock().insert(access_key_id.clone(), session);
        SessionKeys { access_key_id, secret_key, token, ends_at }
    }

    /// What a signature by this access key is verified with, whether the session is over or not.
    pub(super) fn key(&self, access_key_id: &str) -> Option<KnownKey> {
        let sessions = self.lock();
        let Session { secret_key, token, .. } = sessions.get(access_key_id)?;
        Some(KnownKey { expires_at: None, ..KnownKey::temporary(secret_key, token, SystemTime::UNIX_EPOCH) })
    }

    /// Whether this access key's session is over.
    pub(super) fn is_over(&self, access_key_id: &str) -> bool {
        self.lock().get(access_key_id).is_none_or(|session| session.ends_at <= SystemTime::now())
    }

    /// Ends all that are open.
    pub(super) fn end(&self) {
        for session in self.lock().values_mut() {
            session.ends_at = SystemTime::UNIX_EPOCH;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("open", &self.lock().len()).finish()
    }
}
