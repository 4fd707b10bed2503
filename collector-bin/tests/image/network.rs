//! A network of a test's own, in which every port is free: what the image listens on, and a name server's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::inside::{self, is_root};
use crate::layout::Layout;

/// Runs `scene` with the given image and with a loopback that nobody else has: this program runs itself there, for the
/// one test whose name is `test`, with its modules. Skips, said aloud, where that can't be.
pub(crate) fn in_own_network(test: &str, scene: impl AsyncFnOnce(Layout)) {
    if inside::is_inside() {
        return inside::run(scene(Layout::read(&given_image().unwrap())));
    }
    if given_image().is_none() {
        let how = "PROMFERRY_IMAGE names no image, make one: scripts/image --profile dev target/image";
        return skip(test, how);
    }
    let least = format!("exec {} /bin/true", inner().join(" "));
    let tried = inside::attempt(Command::new("umoci").arg("--version"))
        .and_then(|()| inside::attempt(outer().args(["/bin/sh", "-c", &least])));
    if let Err(reason) = tried {
        return skip(test, &reason);
    }
    inside::run_again(outer(), test);
}

/// Says that a test does not run; where it has to, it fails.
pub(crate) fn skip(test: &str, reason: &str) {
    let is_required = env::var_os("PROMFERRY_REQUIRE_IMAGE").is_some_and(|value| value == "1");
    assert!(!is_required, "{test}: {reason}");
    eprintln!("SKIPPED {test}: {}", reason.trim());
}

/// The image that is to be run.
pub(crate) fn given_image() -> Option<PathBuf> {
    let named = env::var_os("PROMFERRY_IMAGE").filter(|value| !value.is_empty())?;
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(named))
}

/// bubblewrap with a network that has nothing but a loopback. Who is not root becomes root of a user namespace, for the
/// low ports.
fn outer() -> Command {
    let mut command = Command::new("bwrap");
    if !is_root() {
        command.args(["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]);
    }
    command.args(["--unshare-net", "--dev-bind", "/", "/", "--die-with-parent", "--"]);
    command
}

/// The least of what a container of the image is made with.
fn inner() -> Vec<String> {
    let mut command = as_nobody();
    command.extend(
        [
            "bwrap",
            "--unshare-user",
            "--uid",
            "65534",
            "--gid",
            "65534",
            "--unshare-pid",
            "--ro-bind",
            "/",
            "/",
        ]
        .map(str::to_owned),
    );
    command
}

/// What a command begins with that is to run as uid 65534. Only root can be somebody else outside of a user namespace.
pub(crate) fn as_nobody() -> Vec<String> {
    if !is_real_root() {
        return Vec::new();
    }
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"].map(str::to_owned).to_vec()
}

/// Whether this is root, and not only called so in a user namespace.
pub(crate) fn is_real_root() -> bool {
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_root() && ids.split_whitespace().nth(2).is_some_and(|count| count == "4294967295")
}
