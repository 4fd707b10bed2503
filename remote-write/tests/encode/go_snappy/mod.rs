//! Joined bodies are what golang/snappy, the decoder of most receivers, takes for one block.

use std::io::Write;
use std::process::{Command, Stdio};

use promferry_remote_write::encode::join;

use crate::requests::{PROTOCOLS, fragments};

#[test]
fn go_decodes_a_concatenation() {
    for protocol in PROTOCOLS {
        let mixed: Vec<_> = [3, 600, 5, 700, 1].into_iter().flat_map(|n| fragments(protocol, n, 2)).collect();
        let request = join(&mixed).unwrap();
        let program = Command::new("go")
            .args(["run", "."])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encode/go_snappy"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut program = match program {
            Ok(program) => program,
            Err(error) => return println!("SKIPPED: go can't be run: {error}"),
        };
        // It reads everything before it writes, so that neither side waits for the other.
        let written = program.stdin.take().map(|mut stdin| stdin.write_all(&request.body));
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("undecodable"), "{protocol:?}: {said}");
        if !output.status.success() || !matches!(written, Some(Ok(()))) {
            return println!("SKIPPED: the Go program does not build here: {said}");
        }
        let decoded = snap::raw::Decoder::new().decompress_vec(&request.body).unwrap();
        assert!(output.stdout == decoded, "{protocol:?}: Go decoded something else");
    }
}
