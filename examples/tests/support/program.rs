use std::path::PathBuf;
use std::process::Command;

/// An example's program: cargo builds it beside the tests, unless it was told to build this test alone.
pub(crate) fn program(name: &str) -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let path = target.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", env!("CARGO_PKG_NAME"), "--example", name])
            .status();
        assert!(built.unwrap().success() && path.exists(), "{} is not there", path.display());
    }
    path
}
