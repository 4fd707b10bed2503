//! Where the spool lies, read from mounts as the runtimes make them, and what is promised for it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use promferry_collector::promise::{self, Event, Promise};
use promferry_collector::storage_location::StorageLocation;
use promferry_remote_write::spool::FsyncPolicy;

fn mountinfo(name: &str) -> String {
    std::fs::read_to_string(Path::new("tests/mountinfo").join(name)).unwrap()
}

#[test]
fn the_mounts_tell_where_a_directory_lies() {
    use StorageLocation::{
        ContainerLayer, EmptyDir, HostDisk, HostMemory, MemoryEmptyDir, NodeDirectory, Unknown,
    };
    let volume = |file_system: &str| StorageLocation::Volume { file_system: file_system.to_owned() };
    let cases = [
        ("eks-fargate.txt", "/data/spool", true, EmptyDir),
        ("eks-fargate.txt", "/data-agent/spool", true, ContainerLayer),
        ("eks-fargate.txt", "/", false, ContainerLayer),
        ("eks-fargate.txt", "/dev/shm/spool", true, MemoryEmptyDir),
        ("eks-node-emptydir-own-disk.txt", "/data", true, EmptyDir),
        ("eks-node-emptydir-subpath.txt", "/data/spool", true, EmptyDir),
        ("eks-node-emptydir-memory.txt", "/data/spool", true, MemoryEmptyDir),
        ("eks-node-ebs.txt", "/data/spool", true, volume("ext4")),
        ("eks-node-efs.txt", "/data/spool", true, volume("nfs4")),
        ("eks-node-hostpath.txt", "/data/spool", true, NodeDirectory),
        ("eks-node-devmapper.txt", "/data/spool", true, ContainerLayer),
        ("docker-volume.txt", "/data/spool", false, NodeDirectory),
        ("docker-volume.txt", "/spool", false, ContainerLayer),
        ("host.txt", "/var/lib/promferry", false, HostDisk),
        ("host.txt", "/run/promferry", false, HostMemory),
        ("host.txt", "/srv/my data/spool", false, HostDisk),
        ("host.txt", "/mnt/spool", false, HostMemory),
    ];
    for (file, directory, in_container, expected) in cases {
        let found = StorageLocation::read(&mountinfo(file), Path::new(directory), in_container);
        assert_eq!(found, expected, "{file} {directory}");
    }
    assert_eq!(StorageLocation::read("", Path::new("/data"), true), Unknown);
    assert_eq!(StorageLocation::read("gibberish\n - \n1 2 3\n", Path::new("/data"), true), Unknown);
}

#[test]
fn a_directory_that_does_not_exist_yet_lies_where_its_parent_does() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("not/there/yet");
    assert_eq!(StorageLocation::of(&missing), StorageLocation::of(directory.path()));
}

#[test]
fn the_page_about_the_promise_holds_the_table_that_the_program_goes_by() {
    let page = std::fs::read_to_string("../docs/promise.md").unwrap();
    assert!(page.contains(&promise::table()), "docs/promise.md should contain:\n\n{}", promise::table());
}

#[test]
fn what_is_said_at_start_is_no_more_than_the_place_can_hold() {
    let empty_dir = promise::sentence(&StorageLocation::EmptyDir, FsyncPolicy::Never);
    assert!(
        empty_dir.contains("an emptyDir; kept: process killed, container restarted, OOM kill; "),
        "{empty_dir}"
    );
    assert!(
        empty_dir.contains("; sent for up to 20 s, the rest lost: pod replaced, rollout; lost: node lost; ")
    );
    let layer = promise::sentence(&StorageLocation::ContainerLayer, FsyncPolicy::Always);
    assert!(layer.contains("; kept: process killed; "), "{layer}");
    assert!(promise::advice(&StorageLocation::ContainerLayer).unwrap().contains("emptyDir"));
    assert!(promise::advice(&StorageLocation::EmptyDir).is_none());
    // Without knowing anything nothing is promised that the weakest place does not keep.
    for event in Event::ALL {
        let least = promise::promise(&StorageLocation::ContainerLayer, event);
        assert_eq!(promise::promise(&StorageLocation::Unknown, event), least);
    }
    assert_eq!(promise::promise(&StorageLocation::EmptyDir, Event::OutOfMemory), Promise::Kept);
}
