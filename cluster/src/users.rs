//! Who may speak to the API server, by tokens that it is started with.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// The users that every cluster knows: the owner, the service account `scraper` of the namespace `monitoring`, and others
/// that are in no group. Only `admin` may do anything at all until a binding says so. A binding's subject is
/// `system:serviceaccount:monitoring:scraper` for `scraper` and the same word as here for the others.
pub const USERS: &[&str] = &[
    "admin", "scraper", "nobody", "user-1", "user-2", "user-3", "user-4", "user-5", "user-6", "user-7",
    "user-8", "user-9", "user-10", "user-11", "user-12", "user-13", "user-14", "user-15", "user-16",
];

/// What tells these tokens from another cluster's, and makes them findable where they must not be.
#[derive(Clone)]
pub(crate) struct Tokens {
    secret: u64,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { secret: RandomState::new().hash_one("tokens") }
    }

    /// # Panics
    /// When nobody has this name.
    pub(crate) fn of(&self, user: &str) -> String {
        assert!(USERS.contains(&user), "no user is called {user}; there are {USERS:?}");
        format!("{user}-token-{:016x}", self.secret)
    }

    /// For `--token-auth-file`.
    pub(crate) fn write(&self, file: &Path) {
        let lines = USERS.iter().enumerate().map(|(number, user)| {
            let (name, groups) = match *user {
                "admin" => ("admin", "system:masters"),
                "scraper" => (
                    "system:serviceaccount:monitoring:scraper",
                    "system:serviceaccounts,system:serviceaccounts:monitoring",
                ),
                other => (other, "system:authenticated"),
            };
            format!("{},{name},{number},\"{groups}\"\n", self.of(user))
        });
        write(file, &lines.collect::<String>());
    }
}

/// A kubeconfig by which this user reaches the server.
pub(crate) fn write_kubeconfig(file: &Path, server: &str, certificate: &Path, token: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: test, cluster: {{server: '{server}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: test, user: {{token: {token}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test, namespace: default}}}}]\n\
         current-context: test\n",
        certificate.display()
    );
    write(file, &text);
}

/// What the kubelet mounts into a pod.
pub(crate) fn write_service_account(
    folder: &Path,
    certificate: &Path,
    token: &str,
    namespace: &str,
) -> PathBuf {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
    write(&folder.join("token"), token);
    write(&folder.join("namespace"), namespace);
    fs::copy(certificate, folder.join("ca.crt")).expect("the API server's certificate");
    folder.to_owned()
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
