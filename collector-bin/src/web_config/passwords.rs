//! Passwords of `basic_auth_users`.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use http::HeaderValue;
use promferry_http_client::Secret;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

/// Compares passwords with their hashes, which takes long on purpose: one at a time on the blocking pool, and of what was
/// compared it remembers how it went.
pub(super) struct Passwords {
    verdicts: Mutex<Verdicts>,
    turn: Arc<Semaphore>,
    /// Of this process: what is remembered says nothing to who reads its memory elsewhere.
    pepper: [u64; 2],
}

/// What was compared, by a digest of user, hash and password, whether the user was known or not. Wrong ones do not drive
/// right ones out.
#[derive(Default)]
struct Verdicts {
    right: HashSet<[u8; 32]>,
    wrong: HashSet<[u8; 32]>,
}

/// As many verdicts of each kind are remembered; then it begins anew.
const REMEMBERED: usize = 100;
/// Comparing takes twice as long with each more; at 20 it is a minute.
const MAX_COST: u32 = 18;

impl Default for Passwords {
    fn default() -> Self {
        Self {
            verdicts: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            pepper: [0, 1].map(|number: u64| RandomState::new().hash_one(number)),
        }
    }
}

impl Passwords {
    /// Whether a request with this header comes from one of the users.
    pub(super) async fn admit(
        &self,
        users: &BTreeMap<String, Secret>,
        authorization: Option<&HeaderValue>,
    ) -> bool {
        let Some((user, password)) = authorization.and_then(credentials) else { return false };
        let known = users.get(&user);
        // An unknown user takes as long as a known one, or guessing tells who there is.
        let Some(hash) = known.or_else(|| users.values().next()) else { return false };
        let key = self.key(&user, hash, &password);
        if let Some(is_right) = self.verdict(&key) {
            return is_right && known.is_some();
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        // Somebody before may have asked the same.
        if let Some(is_right) = self.verdict(&key) {
            return is_right && known.is_some();
        }
        let hash = hash.clone();
        let compared = tokio::task::spawn_blocking(move || {
            // Held until it is done, also when nobody waits any more.
            let _turn = turn;
            bcrypt::verify(&password, hash.expose()).unwrap_or(false)
        });
        let is_right = compared.await.unwrap_or(false);
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = if is_right { &mut verdicts.right } else { &mut verdicts.wrong };
        if of_kind.len() >= REMEMBERED {
            of_kind.clear();
        }
        of_kind.insert(key);
        is_right && known.is_some()
    }

    fn verdict(&self, key: &[u8; 32]) -> Option<bool> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.right.contains(key) {
            return Some(true);
        }
        verdicts.wrong.contains(key).then_some(false)
    }

    fn key(&self, user: &str, hash: &Secret, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        for number in self.pepper {
            digest.update(number.to_le_bytes());
        }
        for part in [user.as_bytes(), hash.expose().as_bytes(), password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// Whether this is a hash that a password can be compared with.
pub(super) fn check(hash: &str) -> Result<(), &'static str> {
    let parts: HashParts =
        hash.parse().map_err(|_| "it is no bcrypt hash, such as `htpasswd -nBC 10 user` makes")?;
    match parts.get_cost() {
        4..=MAX_COST => Ok(()),
        _ => Err(
            "the cost of a bcrypt hash can be 4 to 18 here: with more, each password takes a minute to compare",
        ),
    }
}

/// User and password of a header (RFC 7617).
fn credentials(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `promferry` at the lowest cost.
    const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuz.2OD4vzyR4IvVO1eyTgnmhKnXdC8XS";

    fn header(credentials: &str) -> HeaderValue {
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(credentials))).unwrap()
    }

    #[tokio::test]
    async fn only_a_known_user_with_the_right_password_comes_in() {
        let passwords = Passwords::default();
        let users = BTreeMap::from([("alice".to_owned(), Secret::from(HASH))]);
        // Each twice: compared, then remembered.
        for (authorization, expected) in [
            (Some(header("alice:promferry")), true),
            (Some(header("alice:promferry")), true),
            (Some(header("alice:wrong")), false),
            (Some(header("alice:wrong")), false),
            (Some(header("bob:promferry")), false),
            (Some(header("bob:promferry")), false),
            (Some(header("alice")), false),
            (Some(HeaderValue::from_static("Bearer promferry")), false),
            (Some(HeaderValue::from_static("Basic !")), false),
            (None, false),
        ] {
            assert_eq!(passwords.admit(&users, authorization.as_ref()).await, expected, "{authorization:?}");
        }
        let changed = BTreeMap::from([("alice".to_owned(), Secret::from(HASH.replace("$04$", "$05$")))]);
        assert!(!passwords.admit(&changed, Some(&header("alice:promferry"))).await);
    }

    #[tokio::test]
    async fn wrong_ones_are_remembered_within_bounds_and_drive_no_right_one_out() {
        let passwords = Passwords::default();
        let users = BTreeMap::from([("alice".to_owned(), Secret::from(HASH))]);
        assert!(passwords.admit(&users, Some(&header("alice:promferry"))).await);
        for number in 0..=REMEMBERED {
            assert!(!passwords.admit(&users, Some(&header(&format!("alice:{number}")))).await);
        }
        let verdicts = passwords.verdicts.lock().unwrap();
        assert_eq!((verdicts.right.len(), verdicts.wrong.len()), (1, 1));
    }

    #[test]
    fn a_hash_is_judged_before_it_is_needed() {
        assert_eq!(check(HASH), Ok(()));
        for wrong in
            ["", "promferry", "$2y$10$short", &HASH.replace("$04$", "$19$"), &HASH.replace("$2", "$1")]
        {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
