use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Consumer, options};

fn yaml(pattern: &Path) -> String {
    format!("file_sd_configs: [{{files: ['{}']}}]", pattern.display())
}

#[tokio::test]
async fn json_and_yaml_groups_have_the_labels_of_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("a.json"),
        r#"[{"targets": ["one:80", "two:80"], "labels": {"env": "prod", "none": ""}}, {"targets": ["three:80"]}]"#,
    )
    .unwrap();
    std::fs::write(path("b.yml"), "- targets: ['four:80']\n  labels: {shard: 1, on: true}\n- targets: []\n")
        .unwrap();
    std::fs::write(path("c.YAML"), "").unwrap();
    std::fs::write(path("d.txt"), "garbage").unwrap();
    let here = dir.path().display().to_string();
    let mut consumer = Consumer::run(
        &format!("file_sd_configs: [{{files: ['{here}/*.json', '{here}/*.yml', '{here}/c.YAML']}}]"),
        options(),
    );
    consumer
        .until(&[
            &format!("__meta_filepath={here}/a.json,__address__=three:80"),
            &format!("__meta_filepath={here}/a.json,env=prod,__address__=one:80"),
            &format!("__meta_filepath={here}/a.json,env=prod,__address__=two:80"),
            &format!("__meta_filepath={here}/b.yml,on=true,shard=1,__address__=four:80"),
        ])
        .await;
    let sources = [format!("{here}/a.json:0"), format!("{here}/a.json:1"), format!("{here}/b.yml:0")];
    assert_eq!(consumer.sources(), sources);
    let status = consumer.discovery.status().remove(0);
    assert_eq!((status.mechanism, status.groups, status.targets, status.is_failing), ("file", 3, 4, false));
}

/// The labels that Prometheus 3.16 shows for this file on its targets page.
#[tokio::test]
async fn scalars_become_the_texts_that_prometheus_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".hidden.yml");
    let content = "- targets: ['127.0.0.1:4', 6]\n  labels: {shard: 1, on: true, f: 1.50, d: 2024-01-02, n: ~, y: yes, \
                   ünï: x, __meta_filepath: mine}\n";
    std::fs::write(&file, content).unwrap();
    let mut consumer = Consumer::run(&yaml(&dir.path().join("*.yml")), options());
    let labels =
        format!("__meta_filepath={},d=2024-01-02,f=1.50,on=true,shard=1,y=yes,ünï=x", file.display());
    consumer.until(&[&format!("{labels},__address__=127.0.0.1:4"), &format!("{labels},__address__=6")]).await;
}

/// As Go's `encoding/json` does, and as its `filepath.Glob` finds and names files.
#[tokio::test]
async fn json_and_patterns_are_read_as_go_does() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for (name, content) in [
        ("a[1].json", r#"[{"Targets": ["one"], "LABELS": {"env": "a", "env": "b"}}]"#),
        ("ab.json", r#"[{"targets": ["none"], "targets": ["two", null], "labels": null}]"#),
        ("b.json", r#"[{"targets": ["three"]}]"#),
        ("c.json", "not matched"),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let patterns =
        [r"a\[1\].json", "a**b.json", "sub/../[^ac].json"].map(|pattern| format!("'{here}/{pattern}'"));
    let yaml = format!("file_sd_configs: [{{files: [{}]}}]", patterns.join(", "));
    let mut consumer = Consumer::run(&yaml, options());
    consumer
        .until(&[
            &format!("__meta_filepath={here}/a[1].json,env=b,__address__=one"),
            &format!("__meta_filepath={here}/ab.json"),
            &format!("__meta_filepath={here}/ab.json,__address__=two"),
            &format!("__meta_filepath={here}/b.json,__address__=three"),
        ])
        .await;
}

#[tokio::test]
async fn changes_reach_the_consumer_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    std::fs::write(&file, "[{targets: [a]}, {targets: [b]}, {targets: [c]}]").unwrap();
    let mut consumer = Consumer::run(&yaml(&file), options());
    let meta = format!("__meta_filepath={},__address__=", file.display());
    let targets = |names: &[&str]| names.iter().map(|name| format!("{meta}{name}")).collect::<Vec<_>>();
    macro_rules! until {
        ($($name:expr),*) => {
            let expected = targets(&[$($name),*]);
            consumer.until(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
        };
    }
    until!("a", "b", "c");
    // In place; only the group that differs is passed on.
    std::fs::write(&file, "[{targets: [a]}, {targets: [B]}, {targets: [c]}]").unwrap();
    let batch = consumer.batch().await;
    assert_eq!(batch.len(), 1, "{batch:?}");
    until!("B", "a", "c");
    // A shorter list takes its last groups away.
    std::fs::write(&file, "[{targets: [a]}]").unwrap();
    until!("a");
    // Another file takes its place in one step, as editors and tools do it.
    std::fs::write(dir.path().join("tmp"), "[{targets: [d]}]").unwrap();
    std::fs::rename(dir.path().join("tmp"), &file).unwrap();
    until!("d");
    // The same content again, and a touched file, are no change.
    std::fs::write(&file, "[ {targets: [d]} ]").unwrap();
    consumer.is_quiet().await;
    std::fs::remove_file(&file).unwrap();
    until!();
    std::fs::write(&file, "[{targets: [e]}]").unwrap();
    until!("e");
}

#[tokio::test]
async fn garbage_keeps_the_last_list_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, good, bad) in [
        (
            "a.json",
            r#"[{"targets":["x"]}]"#,
            [
                (r#"[{"targets":["x"]}, {"targ"#, "EOF while parsing"),
                (r#"[{"target":["x"]}]"#, "unknown field `target`"),
                (r#"[null]"#, "group 0 of the list is null"),
                (r#"{"targets":["x"]}"#, "invalid type: map"),
                (r#"[{"targets":["x"],"labels":{"a":1}}]"#, "invalid type: integer `1`"),
                ("", "EOF while parsing"),
            ],
        ),
        (
            "a.yml",
            "- targets: [x]",
            [
                ("- targets: [x", "line 1"),
                ("- tragets: [x]", "tragets"),
                ("- targets: [x]\n- null\n", "group 1 of the list is null"),
                ("- targets: [x]\n  labels: {'': y}", "invalid name \"\""),
                ("\u{0}\u{1}", "line 1"),
                ("- targets: [x]\n  targets: [y]\n", "duplicate"),
            ],
        ),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, good).unwrap();
        let mut consumer = Consumer::run(&yaml(&file), options());
        let target = format!("__meta_filepath={},__address__=x", file.display());
        consumer.until(&[&target]).await;
        for (content, reason) in bad {
            std::fs::write(&file, content).unwrap();
            consumer.failure(reason).await;
            let (_, shown) = consumer.discovery.status()[0].last_failure.clone().unwrap();
            assert!(shown.starts_with(file.to_str().unwrap()), "{shown}");
            consumer.is_quiet().await;
            std::fs::write(&file, good).unwrap();
            consumer.recovery().await;
        }
        assert!(consumer.discovery.status()[0].failures_total >= 6);
        assert!(consumer.discovery.counts().file_read_errors_total >= 6);
    }
}

/// Between emptying a file and writing it there is a moment in which it is a valid, empty list.
#[tokio::test]
async fn a_file_that_is_being_rewritten_is_not_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    std::fs::write(&file, "- targets: [x]").unwrap();
    let mut consumer = Consumer::run(&yaml(&file), options());
    let target = |name: &str| format!("__meta_filepath={},__address__={name}", file.display());
    consumer.until(&[&target("x")]).await;
    std::fs::write(&file, "").unwrap();
    consumer.is_quiet().await;
    std::fs::write(&file, "- targets: [y]").unwrap();
    consumer.batch().await;
    assert_eq!(consumer.targets(), [target("y")]);
    // One that stays empty is one.
    std::fs::write(&file, "\n").unwrap();
    consumer.until(&[]).await;
    assert!(!consumer.discovery.status()[0].is_failing);
}

#[tokio::test]
async fn one_bad_file_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yml"), "- targets: [a]").unwrap();
    std::fs::write(dir.path().join("b.yml"), "garbage").unwrap();
    let mut consumer = Consumer::run(&yaml(&dir.path().join("*.yml")), options());
    let target =
        |name: &str| format!("__meta_filepath={}/{name}.yml,__address__={name}", dir.path().display());
    consumer.until(&[&target("a")]).await;
    consumer.failure("b.yml").await;
    std::fs::write(dir.path().join("c.yml"), "- targets: [c]").unwrap();
    consumer.until(&[&target("a"), &target("c")]).await;
}

/// How the kubelet updates a ConfigMap: "..data" is a symbolic link to a directory and is replaced by another one.
#[tokio::test]
async fn the_swap_of_a_mounted_volume_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let version = |number: &str, content: &str| {
        let directory = format!("..{number}");
        std::fs::create_dir(path(&directory)).unwrap();
        std::fs::write(path(&directory).join("a.yml"), content).unwrap();
        symlink(&directory, path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    version("1", "- targets: [old]");
    symlink("..data/a.yml", path("a.yml")).unwrap();
    let mut consumer = Consumer::run(&yaml(&path("*.yml")), options());
    let meta = format!("__meta_filepath={},__address__=", path("a.yml").display());
    consumer.until(&[&format!("{meta}old")]).await;
    version("2", "- targets: [new]");
    consumer.until(&[&format!("{meta}new")]).await;
    // While the swap is half done the link leads nowhere.
    std::fs::remove_file(path("..data")).unwrap();
    consumer.failure("No such file").await;
    consumer.is_quiet().await;
    version("3", "- targets: [newer]");
    consumer.until(&[&format!("{meta}newer")]).await;
}

#[tokio::test]
async fn a_long_list_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    let groups: String = (0..20_000)
        .map(|index| format!("- targets: [host-{index}:9100]\n  labels: {{rack: r{index}, zone: a}}\n"))
        .collect();
    std::fs::write(&file, groups).unwrap();
    let mut consumer = Consumer::run(&yaml(&file), options());
    while consumer.targets().len() < 20_000 {
        consumer.batch().await;
    }
}
