//! Joined bodies are what other decoders of snappy take for one block: golang/snappy, which most receivers use, and
//! Google's C++ library.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use promferry_remote_write::encode::join;
use promferry_remote_write::{Compression, Fragment, Lane};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::requests::{PROTOCOLS, fragments};
use crate::support::{Received, receive};

const MIXES: usize = 60;

/// Requests made of fragments chosen at random, of all sizes and several lanes, compressed and not; each with the
/// fragments.
fn mixes() -> Vec<(Vec<Fragment>, Vec<u8>)> {
    let mut mixes = Vec::new();
    let mut runner = TestRunner::deterministic();
    for protocol in PROTOCOLS {
        let pool: Vec<_> =
            [1, 3, 40, 90, 200, 600, 900].into_iter().flat_map(|n| fragments(protocol, n, 2)).collect();
        for compression in [Compression::None, Compression::Snappy] {
            assert!(pool.iter().any(|fragment| fragment.compression == compression));
        }
        let chosen = prop::collection::vec((prop::sample::select(pool), 0u8..3), 1..14);
        for _ in 0..MIXES {
            let chosen = chosen.new_tree(&mut runner).unwrap().current();
            let fragments: Vec<_> = chosen
                .into_iter()
                .map(|(fragment, lane)| Fragment { lane: Lane::new(lane).unwrap(), ..fragment })
                .collect();
            let body = join(&fragments).unwrap().body.to_vec();
            mixes.push((fragments, body));
        }
    }
    mixes
}

/// What `decoder`, one of the programs beside this file, makes of the bodies, or why it can't be run.
fn decode(decoder: &mut Command, bodies: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut input = tempfile::tempfile().unwrap();
    for body in bodies {
        std::io::Write::write_all(&mut input, &(body.len() as u32).to_le_bytes()).unwrap();
        std::io::Write::write_all(&mut input, body).unwrap();
    }
    std::io::Seek::rewind(&mut input).unwrap();
    let output = decoder.stdin(Stdio::from(input)).output();
    let output = output.map_err(|error| format!("{decoder:?} can't be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("undecodable"), "{said}");
    if !output.status.success() {
        return Err(format!("{decoder:?} does not work here: {said}"));
    }
    let mut rest = &output.stdout[..];
    let mut decoded = Vec::new();
    while let Some((length, blocks)) = rest.split_first_chunk() {
        let (block, next) = blocks.split_at(u32::from_le_bytes(*length) as usize);
        decoded.push(block.to_vec());
        rest = next;
    }
    Ok(decoded)
}

fn assert_decodes(decoder: &mut Command) -> Result<(), String> {
    let bodies: Vec<_> = mixes().into_iter().map(|(_, body)| body).collect();
    let decoded = decode(decoder, &bodies)?;
    assert_eq!(decoded.len(), bodies.len());
    for (n, (body, decoded)) in bodies.iter().zip(decoded).enumerate() {
        let expected = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        assert!(expected == decoded, "body {n} is something else there");
    }
    Ok(())
}

#[test]
fn go_decodes_a_concatenation() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encode/snappy/go");
    if let Err(missing) = assert_decodes(Command::new("go").args(["run", "."]).current_dir(folder)) {
        println!("SKIPPED: {missing}");
    }
}

#[test]
fn cpp_decodes_a_concatenation() {
    let Some(library) = cpp_library() else {
        return println!(
            "SKIPPED: the C++ library is missing (scripts/peers debian, or install libsnappy1v5)"
        );
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("decode");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encode/snappy/cpp/main.c");
    let compiled = Command::new("cc").arg(source).arg(&library).arg("-o").arg(&program).output();
    match compiled {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return println!(
                "SKIPPED: the decoder does not build here: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Err(error) => return println!("SKIPPED: there is no C compiler: {error}"),
    }
    let decoder = &mut Command::new(&program);
    if let Err(missing) = assert_decodes(decoder.env("LD_LIBRARY_PATH", library.parent().unwrap())) {
        println!("SKIPPED: {missing}");
    }
}

/// Debian's library, installed or as `scripts/peers` unpacks it.
fn cpp_library() -> Option<PathBuf> {
    let peers = std::env::var_os("PROMFERRY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
    let libraries = [peers.join("debian/libsnappy1v5/usr/lib"), PathBuf::from("/usr/lib")];
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let candidates = libraries
        .iter()
        .flat_map(|library| folders.map(|folder| library.join(folder).join("libsnappy.so.1")));
    candidates.into_iter().find(|path| path.is_file())
}

/// Fragments may change places in a request, but not those of one lane.
#[test]
fn each_lane_keeps_its_order() {
    for (fragments, body) in mixes() {
        let request = join(&fragments).unwrap();
        assert_eq!(request.body, body);
        let parts = fragments
            .iter()
            .map(|fragment| (fragment.lane, receive(&join(std::slice::from_ref(fragment)).unwrap())));
        assert!(is_made_of(&receive(&request), &parts.collect::<Vec<_>>()));
    }
}

/// Whether `received` is these parts one after the other, those of one lane in their order. What comes next may be the
/// next part of several lanes, as some begin alike: each is tried.
fn is_made_of(received: &[Received], parts: &[(Lane, Vec<Received>)]) -> bool {
    if parts.is_empty() {
        return received.is_empty();
    }
    parts.iter().enumerate().any(|(at, (lane, part))| {
        let is_next = parts[..at].iter().all(|(before, _)| before != lane) && received.starts_with(part);
        is_next && is_made_of(&received[part.len()..], &[&parts[..at], &parts[at + 1..]].concat())
    })
}
