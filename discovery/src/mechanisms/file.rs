//! `file_sd_configs`: targets in JSON and YAML files.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use glob::MatchOptions;
use promferry_model::{PromDuration, TargetGroup};
use serde::{Deserialize, Deserializer};
use smol_str::{SmolStr, format_smolstr};

use super::list::{List, from_json, groups};
use crate::config::{ConfigError, null_is_default, validate_interval};
use crate::{Discover, Error, Updates};

/// The longest file that is read: some hundred thousand targets.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Some programs empty a file before they write it. One that is empty is no list before it has been so for this long.
const BLANK_FOR: Duration = Duration::from_secs(2);
/// What serde-saphyr's limits would allow is some ten thousand targets; the file's length limits enough.
const MAX_YAML_NODES: usize = MAX_FILE_BYTES as usize / 2;

/// One of the `file_sd_configs`: files that hold lists of target groups.
///
/// Follows `discovery/file/file.go` of Prometheus 3.16, but looks at the files every few seconds instead of watching
/// them: that also notices what happens behind symbolic links, as in the volumes that Kubernetes mounts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileSdConfig {
    /// Paths that end in .json, .yml or .yaml; the last component may contain one `*`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub files: Vec<PathBuf>,
    /// Everything is read anew this often, whether it looks changed or not. 5 m by default.
    #[serde(default = "default_interval", deserialize_with = "interval_or_default")]
    pub refresh_interval: PromDuration,
}

impl FileSdConfig {
    /// The files at these paths.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { files: files.into_iter().map(Into::into).collect(), refresh_interval: default_interval() }
    }

    /// # Errors
    /// No path at all, a path that is none for this mechanism, or an interval of zero.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.files.is_empty() {
            return Err(ConfigError::new(&["files"], "at least one path is needed"));
        }
        for (index, path) in self.files.iter().enumerate() {
            if !path.to_str().is_some_and(is_valid_pattern) {
                return Err(ConfigError::new(
                    &["files", &index.to_string()],
                    format!(
                        "path {} is not valid for file discovery: it must end in .json, .yml or .yaml and may contain \
                         one \"*\" after the last \"/\"",
                        path.display()
                    ),
                ));
            }
        }
        validate_interval(self.refresh_interval)?;
        Ok(())
    }

    /// Makes relative paths ones below `base_dir`, without "." and ".." (as Go joins paths: the label
    /// `__meta_filepath` shows it).
    pub fn resolve_paths(&mut self, base_dir: &Path) {
        for path in &mut self.files {
            if path.is_relative() {
                *path = clean(&base_dir.join(&*path));
            }
        }
    }
}

/// Without a value it would be zero in Go, on which Prometheus ends with a panic.
fn interval_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PromDuration, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_interval))
}

fn default_interval() -> PromDuration {
    PromDuration::from_secs(300)
}

/// Prometheus' `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`. (Its second half allows more than one `*`.)
fn is_valid_pattern(path: &str) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    let directory_of_star = stem.split_once('*').map(|(_, rest)| rest);
    matches!(extension, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML")
        && directory_of_star.is_none_or(|rest| !rest.contains('/'))
}

/// A pattern of Go's `filepath.Match` as the `glob` crate has it: there a backslash takes the meaning from the character
/// after it, a class is negated by `^`, and two stars are one.
fn unix_glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(literal @ ('*' | '?' | '[' | ']')) => glob.extend(['[', literal, ']']),
                Some(literal) => glob.push(literal),
                None => glob.push('\\'),
            },
            '*' => {
                glob.push('*');
                while characters.next_if_eq(&'*').is_some() {}
            }
            '[' => {
                glob.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    glob.push('!');
                }
            }
            other => glob.push(other),
        }
    }
    glob
}

/// Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(cleaned.components().next_back(), Some(Component::Normal(_))) =>
            {
                cleaned.pop();
            }
            Component::ParentDir if cleaned.has_root() => {}
            other => cleaned.push(other),
        }
    }
    cleaned
}

/// The mechanism.
pub(crate) struct FileDiscovery {
    patterns: Vec<String>,
    interval: Duration,
    poll_interval: Duration,
    known: BTreeMap<String, KnownFile>,
    /// When everything was read for the last time.
    refreshed: Option<Instant>,
    unmatched: Vec<bool>,
}

/// A file as it was when it was read last.
#[derive(Default)]
struct KnownFile {
    stamp: Option<Stamp>,
    content_hash: u64,
    /// The groups that are in force.
    groups: usize,
    error: Option<String>,
    /// There are documents after the first one.
    has_more: bool,
    blank_since: Option<Instant>,
}

/// What one look at the files brought.
#[derive(Default)]
struct Look {
    set: Vec<TargetGroup>,
    removed: Vec<SmolStr>,
    errors: Vec<String>,
    /// Something was read, or failed to be.
    has_news: bool,
}

impl FileDiscovery {
    pub(crate) fn new(config: &FileSdConfig, poll_interval: Duration) -> Result<Self, Error> {
        config.validate()?;
        let patterns = config.files.iter().filter_map(|path| path.to_str().map(str::to_owned));
        let interval = config.refresh_interval.as_std();
        Ok(Self {
            patterns: patterns.collect(),
            interval,
            poll_interval: poll_interval.min(interval),
            known: BTreeMap::new(),
            refreshed: None,
            unmatched: vec![false; config.files.len()],
        })
    }

    fn look(&mut self) -> Look {
        let mut look = Look::default();
        let read_all = self.refreshed.is_none_or(|refreshed| refreshed.elapsed() >= self.interval);
        if read_all {
            self.refreshed = Some(Instant::now());
            look.has_news = true;
        }
        let mut files = self.list();
        files.sort_unstable();
        files.dedup();
        for path in &files {
            self.visit(path, read_all, &mut look);
        }
        self.known.retain(|path, known| {
            let stays = files.binary_search(path).is_ok();
            if !stays {
                look.removed.extend((0..known.groups).map(|index| format_smolstr!("{path}:{index}")));
                look.has_news = true;
            }
            stays
        });
        look.errors = self.known.values().filter_map(|known| known.error.clone()).collect();
        look
    }

    fn list(&mut self) -> Vec<String> {
        let mut files = Vec::new();
        for (pattern, is_unmatched) in self.patterns.iter().zip(&mut self.unmatched) {
            let before = files.len();
            if pattern.contains(['*', '?', '[', '\\']) {
                let options = MatchOptions {
                    case_sensitive: true,
                    require_literal_separator: true,
                    require_literal_leading_dot: false,
                };
                // A directory that cannot be read has no matches, as in Go.
                let found = glob::glob_with(&unix_glob(pattern), options).into_iter().flatten().flatten();
                files.extend(found.filter_map(|path| clean(&path).to_str().map(str::to_owned)));
            } else if std::fs::symlink_metadata(pattern).is_ok() {
                files.push(pattern.clone());
            }
            *is_unmatched = files.len() == before;
        }
        files
    }

    /// Which names no file has, and which files have more than is read.
    fn remark(&self) -> Option<String> {
        let unmatched = self.patterns.iter().zip(&self.unmatched).filter(|(_, is_unmatched)| **is_unmatched);
        let patterns: Vec<_> = unmatched.map(|(pattern, _)| pattern.as_str()).collect();
        let missing =
            (!patterns.is_empty()).then(|| format!("there is no file {} (yet)", patterns.join(", ")));
        let longer = self.known.iter().filter(|(_, known)| known.has_more);
        let longer = longer.map(|(path, _)| format!("of {path} only the first document is read"));
        let remarks: Vec<_> = missing.into_iter().chain(longer).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    fn visit(&mut self, path: &str, read_all: bool, look: &mut Look) {
        let known = self.known.entry(path.to_owned()).or_default();
        let stamp = Stamp::of(path);
        if !read_all
            && stamp.is_some()
            && stamp == known.stamp
            && known.stamp.is_some_and(|stamp| stamp.settled)
        {
            return;
        }
        let failed = |known: &mut KnownFile, look: &mut Look, reason: String| {
            let reason = format!("{path}: {reason}");
            if known.error.as_ref() != Some(&reason) {
                look.has_news = true;
            }
            known.error = Some(reason);
        };
        let content = match read(path) {
            Ok(content) => content,
            Err(reason) => {
                known.stamp = None;
                return failed(known, look, reason);
            }
        };
        if content.trim_ascii().is_empty() {
            let since = known.blank_since.get_or_insert_with(Instant::now);
            if since.elapsed() < BLANK_FOR {
                known.stamp = None;
                return;
            }
        } else {
            known.blank_since = None;
        }
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let content_hash = hasher.finish();
        let is_unchanged = known.stamp.is_some() && known.content_hash == content_hash;
        known.stamp = stamp;
        known.content_hash = content_hash;
        if is_unchanged {
            return;
        }
        look.has_news = true;
        let parsed = parse(path, &content)
            .and_then(|(list, has_more)| Ok((groups(list, path, "__meta_filepath")?, has_more)));
        match parsed {
            Ok((groups, has_more)) => {
                known.has_more = has_more;
                look.removed
                    .extend((groups.len()..known.groups).map(|index| format_smolstr!("{path}:{index}")));
                known.groups = groups.len();
                known.error = None;
                look.set.extend(groups);
            }
            Err(reason) => failed(known, look, reason),
        }
    }
}

impl Discover for FileDiscovery {
    fn run(mut self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            loop {
                let looking = tokio::task::spawn_blocking(move || {
                    let look = self.look();
                    (self, look)
                });
                let Ok((this, look)) = looking.await else {
                    // The task panicked; who runs the mechanism starts it afresh.
                    return;
                };
                self = this;
                updates.remark(self.remark());
                if look.has_news {
                    updates.change(look.set, look.removed);
                    let errors = look.errors.len() as u64;
                    updates.counts().change(|counts| counts.file_read_errors_total += errors);
                    if look.errors.is_empty() {
                        updates.succeeded();
                    } else {
                        updates.failed(&look.errors.join("; "));
                    }
                }
                tokio::time::sleep(self.poll_interval).await;
            }
        })
    }
}

/// What tells one content of a file from the next. Symbolic links are followed: the swap of a mounted volume shows as
/// another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Written so lately that a second write could leave the same times.
    settled: bool,
}

impl Stamp {
    fn of(path: &str) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let age =
            metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: age.is_some_and(|age| age > Duration::from_secs(2)),
        })
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let reason = |error: std::io::Error| error.to_string();
    let mut content = Vec::new();
    std::fs::File::open(path)
        .map_err(reason)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(reason)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(content)
}

/// The list, and whether more follows it that is not read.
fn parse(path: &str, content: &[u8]) -> Result<(List, bool), String> {
    if path.to_ascii_lowercase().ends_with(".json") {
        return from_json(content).map(|list| (list, false)).map_err(|error| error.to_string());
    }
    let content = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    if content.trim().is_empty() {
        return Ok((None, false));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_YAML_NODES,
            max_events: 3 * MAX_YAML_NODES,
        },
        with_snippet: false,
    };
    let mut content = content.as_bytes();
    // Of several documents Go reads the first.
    let mut documents = serde_saphyr::read_with_options(&mut content, options);
    let list: List = documents.next().unwrap_or(Ok(None)).map_err(|error| error.to_string())?;
    Ok((list, documents.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_prometheus() {
        for (pattern, valid) in [
            ("a.json", true),
            ("/etc/x/*.yml", true),
            ("/etc/x/a*b.YAML", true),
            ("*.JSON", true),
            ("/etc/*/a.json", false),
            ("/etc/*/*.json", false),
            ("/etc/a.txt", false),
            ("/etc/a.Json", false),
            ("json", false),
            ("", false),
            (".yml", true),
        ] {
            assert_eq!(is_valid_pattern(pattern), valid, "{pattern}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (go, glob) in [
            ("/a/*.yml", "/a/*.yml"),
            ("/a/x**y.yml", "/a/x*y.yml"),
            ("/a/[^ab]?.yml", "/a/[!ab]?.yml"),
            (r"/a/\[1\]\*\x.yml", "/a/[[]1[]][*]x.yml"),
        ] {
            assert_eq!(unix_glob(go), glob);
        }
    }

    #[test]
    fn paths_are_joined_as_in_go() {
        for (path, joined) in [
            ("a.yml", "/etc/p/a.yml"),
            ("./x/../a.yml", "/etc/p/a.yml"),
            ("../../../a.yml", "/a.yml"),
            ("/abs/./a.yml", "/abs/./a.yml"),
        ] {
            let mut config = FileSdConfig::new([path]);
            config.resolve_paths(Path::new("/etc/p"));
            assert_eq!(config.files[0].to_str(), Some(joined));
        }
    }
}
