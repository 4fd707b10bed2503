//! What a test needs of the system around the programs that it compares: bubblewrap, where it works.

use std::process::Command;

use crate::inside::{attempt, is_root};

/// The start of a command line that runs the rest with a file system that is this one, and `more` of bubblewrap's options.
/// Why it can't be, if it can't.
pub(crate) fn bubblewrap(more: &[String]) -> Result<Vec<String>, String> {
    let mut command: Vec<String> =
        ["bwrap", "--dev-bind", "/", "/", "--die-with-parent"].map(str::to_owned).to_vec();
    if !is_root() {
        command.splice(
            1..1,
            ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"].map(str::to_owned),
        );
    }
    command.extend(more.iter().cloned());
    command.push("--".to_owned());
    attempt(Command::new("bwrap").args(&command[1..]).arg("true"))?;
    Ok(command)
}
