//! `file_sd_configs`: what programs do to files, and how they write them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use promferry_bench::peers::Peer;

use crate::beside::{Beside, has};

/// Lists as they may be written, and mistakes in them: both read or refuse the same ones.
const JSON: &[&str] = &[
    "null",
    "[]",
    "[null]",
    "[{}]",
    r#"[{"targets":null,"labels":null}]"#,
    r#"{"targets":["object:1"]}"#,
    r#"[{"targets":["extra:1"],"extra":1}]"#,
    r#"[{"Targets":["upper:1"],"LABELS":{"a":"b"}}]"#,
    r#"[{"targets":["twice:1"],"targets":["twice:2"]}]"#,
    r#"[{"targets":["labels:1"],"labels":{"a":"1","a":"2"}}]"#,
    r#"[{"targets":[1]}]"#,
    r#"[{"targets":["number:1"],"labels":{"a":1}}]"#,
    r#"[{"targets":["null:1",null],"labels":{"a":null}}]"#,
    r#"[{"targets":["empty-name:1"],"labels":{"":"x"}}]"#,
    r#"[{"targets":["utf8:1"],"labels":{"ü name":"wért","dotted.name":"x"}}]"#,
    r#"[{"targets":["address:1"],"labels":{"__address__":"other:1","__scheme__":"https","job":"other","instance":"i"}}]"#,
    r#"[{"targets":["path:1"],"labels":{"__metrics_path__":"/m","__param_a":"b","__scrape_interval__":"7s","__meta_filepath":"x"}}]"#,
    r#"[{"targets":["empty-value:1",""],"labels":{"a":""}}]"#,
    r#"[{"targets":["http://url:1/metrics","[::1]:9","host","same:1","same:1"]}]"#,
    r#"[{"targets":["trailing:1"]}] x"#,
    r#"[{"targets":["comma:1"],}]"#,
    "[{\"targets\":[\"tab\\there:1\"]}]\n\n",
    "\u{feff}[{\"targets\":[\"mark:1\"]}]",
    r#"[{"targets":["first:1"]},{"targets":["second:1"],"labels":{"b":"c"}},{"targets":[]}]"#,
    r#"[{"targets":["good:1"]},{"targets":"bad"}]"#,
    r#"[{"targets":["escape\u0041\ud83d\ude00:1"]}]"#,
    "",
    "  \n",
];

const YAML: &[&str] = &[
    "[]",
    "~",
    "",
    "# nothing\n",
    "- targets: [plain:1]\n  labels: {a: b}\n",
    "- targets:\n  - 'quoted:1'\n  - \"double:1\"\n",
    "- targets: [number:1, 17]\n  labels: {a: 1, b: 1.50, c: true, d: ~, e: 2020-01-01, f: 0x10, g: 1e3}\n",
    "- targets: [yes-no:1]\n  labels: {a: yes, b: off, c: 'no', d: null}\n",
    "- targets: [extra:1]\n  extra: 1\n",
    "- Targets: [upper:1]\n",
    "- targets: [twice:1]\n  targets: [twice:2]\n",
    "- targets: [labels:1]\n  labels: {a: b, a: c}\n",
    "- targets: one:1\n",
    "- &group\n  targets: [anchor:1]\n  labels: &l {a: b}\n- targets: [alias:1]\n  labels: *l\n",
    "- targets: [folded:1]\n  labels:\n    text: >\n      a\n      b\n    kept: |\n      a\n      b\n",
    "---\n- targets: [document:1]\n...\n",
    "- targets: [first:1]\n---\n- targets: [second:1]\n",
    "- targets: [unclosed:1\n",
    "- ~\n",
    "- {}\n",
    "targets: [mapping:1]\n",
    "[{\"targets\": [\"as-json:1\"], \"labels\": {\"a\": \"b\"}}]",
    "- targets: ['ü:1']\n  labels: {ü name: wért, dotted.name: x}\n",
    "- targets: [merged:1]\n  labels:\n    <<: {a: b}\n    c: d\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_as_prometheus_reads_them() {
    let Some(prometheus) = Peer::Prometheus.or_skip("files_are_read_as_prometheus_reads_them") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for folder in ["many", "forms", "mounted/..2026_1", "away"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (number, text) in JSON.iter().enumerate() {
        fs::write(root.join(format!("forms/{number:02}.json")), text).unwrap();
    }
    for (number, text) in YAML.iter().enumerate() {
        fs::write(root.join(format!("forms/{number:02}.yml")), text).unwrap();
    }
    replace(root, "one.json", r#"[{"targets":["a:1","b:1"]},{"targets":["c:1"],"labels":{"x":"y"}}]"#);
    replace(root, "many/1.yml", "- targets: [d:1]\n");
    replace(root, "many/x.json", r#"[{"targets":["e:1"]}]"#);
    replace(root, "away/1.yaml", "- targets: [g:1]\n");
    replace(root, "mounted/..2026_1/list.json", r#"[{"targets":["f:1"]}]"#);
    std::os::unix::fs::symlink("..2026_1", root.join("mounted/..data")).unwrap();
    std::os::unix::fs::symlink("..data/list.json", root.join("mounted/list.json")).unwrap();

    let job = |patterns: &[&str]| {
        let patterns: Vec<_> = patterns.iter().map(|of| format!("'{}'", root.join(of).display())).collect();
        format!("  file_sd_configs: [{{files: [{}], refresh_interval: 1s}}]", patterns.join(", "))
    };
    let jobs = [
        ("forms-json", job(&["forms/*.json"])),
        ("forms-yaml", job(&["forms/*.yml"])),
        ("one", job(&["one.json", "not-there.yml"])),
        ("many", job(&["many/*.yml", "many/1.yml", "many/x*.json"])),
        ("mounted", job(&["mounted/*.json"])),
        ("away", job(&["away/*.yaml"])),
    ];
    let both = Beside::start(&prometheus, &jobs, "").await;
    let first = [("one", vec!["a:1", "b:1", "c:1"]), ("mounted", vec!["f:1"]), ("away", vec!["g:1"])];
    both.until_same("written", has(&first)).await;

    replace(root, "one.json", r#"[{"targets":["b:1"]}]"#);
    replace(root, "not-there.yml", "- targets: [late:1]\n");
    fs::create_dir(root.join("mounted/..2026_2")).unwrap();
    replace(root, "mounted/..2026_2/list.json", r#"[{"targets":["f:2"]}]"#);
    std::os::unix::fs::symlink("..2026_2", root.join("mounted/..data_tmp")).unwrap();
    fs::rename(root.join("mounted/..data_tmp"), root.join("mounted/..data")).unwrap();
    fs::remove_dir_all(root.join("away")).unwrap();
    // One list of this job is none any more; that the other one is read is seen. Written in place, Prometheus may find it
    // empty for a moment, which is a list without targets.
    replace(root, "many/1.yml", "- targets: [garbage:1\n");
    replace(root, "many/2.yml", "- targets: [h:1]\n  labels: {n: '2'}\n");
    let second = [
        ("one", vec!["b:1", "late:1"]),
        ("mounted", vec!["f:2"]),
        ("many", vec!["d:1", "e:1", "h:1"]),
        ("away", vec![]),
    ];
    both.until_same("changed, one into garbage", has(&second)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    both.until_same("still so", has(&second)).await;

    fs::write(root.join("many/1.yml"), "- targets: [d:2]\n").unwrap();
    fs::remove_file(root.join("many/2.yml")).unwrap();
    fs::remove_file(root.join("one.json")).unwrap();
    fs::write(root.join("many/x.json"), "").unwrap();
    fs::write(root.join("not-there.yml"), "").unwrap();
    fs::create_dir(root.join("away")).unwrap();
    replace(root, "away/1.yaml", "- targets: [g:2]\n");
    let third = [("one", vec![]), ("many", vec!["d:2", "e:1"]), ("away", vec!["g:2"])];
    both.until_same("mended, removed, emptied", has(&third)).await;
}

/// As programs should write files that others read.
fn replace(root: &Path, name: &str, text: &str) {
    let beside = root.join(format!("{name}.new"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, root.join(name)).unwrap();
}
