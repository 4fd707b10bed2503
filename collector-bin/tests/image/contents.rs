//! What the script makes, and what it refuses to make.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::layout::Layout;
use crate::network::{as_nobody, given_image, is_real_root, skip};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/image");
/// 2024-01-01.
const EPOCH: &str = "1704067200";

fn script(arguments: &[&str], program: &Path, out: &Path) -> Output {
    let mut command = Command::new(SCRIPT);
    command.args(arguments).arg("--binary").arg(program).arg(out);
    command.env("SOURCE_DATE_EPOCH", EPOCH).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A program that needs nothing, in the place of ours; `None`, said aloud, where the script's tools are not there.
fn tiny_program(test: &str, folder: &Path) -> Option<PathBuf> {
    for tool in ["umoci", "readelf"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(test, &format!("{tool} is missing"));
            return None;
        }
    }
    let (source, program) = (folder.join("tiny.c"), folder.join("tiny"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let compiled = Command::new("cc").args(["-static", "-o"]).args([&program, &source]).output().unwrap();
    assert!(compiled.status.success(), "{}", said(&compiled));
    Some(program)
}

#[test]
fn it_holds_nothing_but_the_binary() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = tiny_program("it_holds_nothing_but_the_binary", folder.path()) else { return };
    let out = folder.path().join("deep/er/image");
    let made = script(&[], &program, &out);
    assert!(made.status.success(), "{}", said(&made));
    let layout = Layout::read(&out);
    let size = fs::metadata(&program).unwrap().len();
    assert_eq!(layout.entries(), expected(size, "2024-01-01 00:00:00"));
    assert_eq!(layout.config["created"], "2024-01-01T00:00:00Z");
    assert_eq!(layout.config["history"].as_array().unwrap().len(), 1, "{}", layout.config);
    // Nothing is left of how it was made.
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(out.parent().unwrap()), ["image"]);
    assert_eq!(names(&out.join("blobs/sha256")).len(), 3);
    assert_is_the_product(&layout);
    // What pushes it reads it as we do.
    let image = format!("oci:{}:{}", out.display(), layout.tag);
    match Command::new("skopeo").args(["inspect", "--format={{.Digest}}", &image]).output() {
        Ok(inspected) => assert_eq!(said(&inspected).trim(), layout.digest),
        Err(_) => eprintln!("SKIPPED reading the layout with skopeo, which is missing"),
    }

    let Some(given) = given_image() else { return };
    let layout = Layout::read(&given);
    let program = layout.unpack(&folder.path().join("bundle")).join("promferry");
    let entries = layout.entries();
    let at = entries[0].split(' ').skip(3).take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(entries, expected(fs::metadata(program).unwrap().len(), &at));
    assert_is_the_product(&layout);
}

fn expected(program_bytes: u64, at: &str) -> Vec<String> {
    [
        ("drwxr-xr-x 0/0", 0, "./"),
        ("lrwxrwxrwx 0/0", 0, "./awscollector -> promferry"),
        ("drwxr-xr-x 0/0", 0, "./bin/"),
        ("lrwxrwxrwx 0/0", 0, "./bin/prometheus -> ../promferry"),
        ("drwxr-xr-x 0/0", 0, "./dev/"),
        ("drwxr-xr-x 0/0", 0, "./etc/"),
        ("drwxr-xr-x 0/0", 0, "./etc/prometheus/"),
        ("drwxr-xr-x 0/0", 0, "./proc/"),
        ("-rwxr-xr-x 0/0", program_bytes, "./promferry"),
        ("drwxrwxrwt 0/0", 0, "./tmp/"),
        ("drwxr-xr-x 65534/65534", 0, "./prometheus/"),
    ]
    .map(|(mode_and_owner, bytes, name)| format!("{mode_and_owner} {bytes} {at} {name}"))
    .to_vec()
}

fn assert_is_the_product(layout: &Layout) {
    let config = &layout.config["config"];
    assert_eq!(layout.strings("Entrypoint"), ["/promferry"]);
    let command = ["run", "--config.file=/etc/prometheus/prometheus.yml", "--storage.agent.path=/prometheus"];
    assert_eq!(layout.strings("Cmd"), command);
    assert_eq!(config["User"], "65534:65534");
    assert_eq!(config["WorkingDir"], "/prometheus");
    assert!(config["ExposedPorts"].get("9090/tcp").is_some(), "{config}");
    assert_eq!(layout.config["os"], "linux");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(layout.config["architecture"], architecture);
    assert_eq!(layout.tag, env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_same_program_makes_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = tiny_program("the_same_program_makes_the_same_image", folder.path()) else { return };
    let out = folder.path().join("image");
    let made = || {
        let made = script(&[], &program, &out);
        assert!(made.status.success(), "{}", said(&made));
        Layout::read(&out).digest
    };
    let first = made();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    fs::File::open(&program).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    // An image that is there is replaced.
    assert_eq!(first, made());
    // Root is not needed, and changes nothing.
    if is_real_root() {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let out = folder.path().join("nobodys");
        let mut command = Command::new("setpriv");
        command.args(&as_nobody()[1..]).arg(SCRIPT).arg("--binary").args([&program, &out]);
        let made = command.env("SOURCE_DATE_EPOCH", EPOCH).output().unwrap();
        assert!(made.status.success(), "{}", said(&made));
        assert_eq!(first, Layout::read(&out).digest);
    }
}

#[test]
fn what_can_be_no_image_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = tiny_program("what_can_be_no_image_is_said", folder.path()) else { return };
    let out = folder.path().join("image");
    let script_file = Path::new(SCRIPT);
    let missing = folder.path().join("missing");
    for (arguments, program, out, code, expected) in [
        (&[][..], Path::new(env!("CARGO_BIN_EXE_promferry")), &out, 1, "is not static: it needs "),
        (&[], script_file, &out, 1, "is no program for"),
        (&[], &missing, &out, 1, "there is no program"),
        (&["--arch", other_architecture()], &program, &out, 1, "is no program for"),
        (&["--arch=riscv64"], &program, &out, 64, "amd64 or arm64"),
        (&["--profile=dev"], &program, &out, 64, "usage: "),
        (&["--push"], &program, &out, 64, "usage: "),
        (&[], &program, &folder.path().to_owned(), 1, "it is not replaced"),
    ] {
        let output = script(arguments, program, out);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{arguments:?}: {}", said(&output));
        assert!(!folder.path().join("image").exists(), "{arguments:?}");
    }
    // Before anything is built.
    let path = folder.path().join("path");
    fs::create_dir(&path).unwrap();
    let on_path = |tools: &[&str]| {
        for tool in tools {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            std::os::unix::fs::symlink(found.trim(), path.join(tool)).unwrap();
        }
    };
    let script = |arguments: &[&str]| {
        let mut command = Command::new("/bin/bash");
        let output = command.arg(SCRIPT).args(arguments).arg(&out).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    on_path(&["dirname", "uname", "readelf", "tar"]);
    assert!(script(&[]).contains("umoci is missing; on Debian: apt-get install umoci"));
    on_path(&["umoci"]);
    if cfg!(target_arch = "x86_64") {
        assert!(
            script(&["--arch", "arm64"])
                .contains("apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
        );
    }
}

fn other_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" }
}
