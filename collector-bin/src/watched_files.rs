//! The files that a configuration was read from, and those that it names: whether their content is another by now.
//!
//! It goes by content alone. Names stay what they are while a Kubernetes volume is swapped below them, and times tell
//! nothing on some file systems; all of it together is small.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use promferry_config::{Config, ConfigError, DiskFiles, Files, Sources};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// What a configuration was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFiles {
    files: BTreeMap<PathBuf, Content>,
    /// What patterns stood for; none where a folder could not be listed.
    patterns: BTreeMap<PathBuf, Option<Vec<PathBuf>>>,
}

/// What is in a file, so far as it has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Bytes of this hash.
    Of(u64),
    /// Nothing that can be read.
    Unreadable,
    /// A pipe, say: what it had is gone, and nothing more can be said of it.
    ReadOnce,
}

/// Whether a configuration is read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// At the start, when also a pipe can be read.
    First,
    /// While another one is in force.
    Again,
}

/// Reads a configuration, and notes from which files: also when it can't be used, so that it is seen when one of them
/// is mended.
pub fn load(sources: &Sources, reading: Reading) -> (Result<Config, ConfigError>, ConfigFiles) {
    let recorder = Recorder { reading, seen: RefCell::default() };
    let config = Config::load(sources, &recorder, &|name: &str| std::env::var(name).ok());
    (config, recorder.seen.into_inner())
}

impl ConfigFiles {
    /// Whether a file has another content by now, or a pattern stands for other files. Reads all of them.
    pub fn have_changed(&self) -> bool {
        let changed_pattern =
            |(pattern, found): (&PathBuf, &Option<Vec<PathBuf>>)| DiskFiles.matching(pattern).ok() != *found;
        let changed_file = |(path, content): (&PathBuf, &Content)| {
            *content != Content::ReadOnce && Content::of(DiskFiles.read(path).as_deref()) != *content
        };
        self.patterns.iter().any(changed_pattern) || self.files.iter().any(changed_file)
    }

    /// A hash of the files' names and contents; zero without files.
    pub fn fingerprint(&self) -> u64 {
        if self.files.is_empty() {
            return 0;
        }
        let mut hasher = Xxh3Default::new();
        for (path, content) in &self.files {
            hasher.update(path.as_os_str().as_encoded_bytes());
            let digest = match content {
                Content::Of(digest) => *digest,
                Content::Unreadable => 1,
                Content::ReadOnce => 2,
            };
            hasher.update(&[0]);
            hasher.update(&digest.to_le_bytes());
        }
        hasher.digest()
    }
}

impl Content {
    fn of(text: Result<&str, &io::Error>) -> Self {
        text.map_or(Self::Unreadable, |text| Self::Of(xxh3_64(text.as_bytes())))
    }
}

/// The files of this machine, of which it is noted what was in them.
struct Recorder {
    reading: Reading,
    seen: RefCell<ConfigFiles>,
}

impl Files for Recorder {
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let found = DiskFiles.matching(pattern);
        self.seen.borrow_mut().patterns.insert(pattern.to_owned(), found.as_ref().ok().cloned());
        found
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let is_pipe = is_pipe(path);
        let text = if is_pipe && self.reading == Reading::Again {
            // To open it might wait for ever.
            let reason = "it is no regular file, and what was in it was read at the start";
            Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
        } else {
            DiskFiles.read(path)
        };
        let content = if is_pipe { Content::ReadOnce } else { Content::of(text.as_deref()) };
        self.seen.borrow_mut().files.insert(path.to_owned(), content);
        text
    }

    fn check_readable(&self, path: &Path) -> io::Result<()> {
        if is_pipe(path) { Ok(()) } else { DiskFiles.check_readable(path) }
    }
}

fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The files that a configuration names and that whoever uses them reads again when they have changed: credentials,
/// certificates. What is found out about them is for the log.
#[derive(Debug, Default)]
pub struct NamedFiles {
    /// The hash of what is in each; none where it can't be read.
    known: BTreeMap<PathBuf, Option<u64>>,
}

/// What has become of a file.
#[derive(Debug)]
#[must_use = "it is for the log"]
pub struct Finding {
    path: PathBuf,
    named_by: String,
    news: News,
}

#[derive(Debug)]
enum News {
    Changed,
    Unreadable(io::Error),
    ReadableAgain,
}

impl NamedFiles {
    /// Looks at these files, each with who names it, and says what is new since the last look; nothing of files that
    /// were not looked at before. Reads all of them.
    pub fn look(&mut self, named: impl IntoIterator<Item = (PathBuf, String)>) -> Vec<Finding> {
        let mut owners: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for (path, owner) in named {
            owners.entry(path).or_default().push(owner);
        }
        self.known.retain(|path, _| owners.contains_key(path));
        let mut findings = Vec::new();
        for (path, owners) in owners {
            let (digest, error) = match digest(&path) {
                Ok(digest) => (Some(digest), None),
                Err(error) => (None, Some(error)),
            };
            let news = match (self.known.insert(path.clone(), digest), error) {
                (Some(Some(_)), Some(error)) => News::Unreadable(error),
                (Some(None), None) => News::ReadableAgain,
                (Some(before), None) if before != digest => News::Changed,
                _ => continue,
            };
            let named_by = match &owners[..] {
                [one] => one.clone(),
                [one, others @ ..] => format!("{one}, and {} more", others.len()),
                [] => continue,
            };
            findings.push(Finding { path, named_by, news });
        }
        findings
    }
}

impl Finding {
    /// Says it in the log.
    pub fn log(&self) {
        let Self { path, named_by, news } = self;
        let path = path.display();
        match news {
            News::Changed => {
                tracing::info!("{path} has changed and is used as it is from now on ({named_by})")
            }
            News::Unreadable(error) => tracing::warn!("{path} can't be read: {error} ({named_by})"),
            News::ReadableAgain => tracing::info!("{path} can be read now ({named_by})"),
        }
    }
}

/// More than any credential or bundle of certificates needs (the system's bundle is 0.2 MB).
const MAX_NAMED_FILE_BYTES: u64 = 4 << 20;

fn digest(path: &Path) -> io::Result<u64> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(MAX_NAMED_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_NAMED_FILE_BYTES {
        let reason = format!("it is longer than {MAX_NAMED_FILE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(xxh3_64(&content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reread(files: &ConfigFiles, file: &Path) -> (bool, ConfigFiles) {
        let (_, now) = load(&Sources::Prometheus(file.to_owned()), Reading::Again);
        (files.have_changed(), now)
    }

    #[test]
    fn what_is_included_and_what_will_be_is_part_of_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (main, jobs) = (path("prometheus.yml"), path("jobs"));
        fs::create_dir(&jobs).unwrap();
        fs::write(&main, "scrape_config_files: [jobs/*.yml]\n").unwrap();
        let (config, files) = load(&Sources::Prometheus(main.clone()), Reading::First);
        assert!(config.unwrap().jobs.is_empty());
        assert!(!files.have_changed());

        fs::write(jobs.join("a.yml"), "scrape_configs: [{job_name: a}]\n").unwrap();
        let (changed, files) = reread(&files, &main);
        assert!(changed && !files.have_changed(), "a new file");
        fs::write(jobs.join("a.yml"), "scrape_configs: [{job_name: b}]\n").unwrap();
        let (changed, files) = reread(&files, &main);
        assert!(changed && !files.have_changed(), "another content");
        // The same content with other times is no change.
        fs::write(jobs.join("a.yml"), "scrape_configs: [{job_name: b}]\n").unwrap();
        assert!(!files.have_changed());
        fs::remove_file(jobs.join("a.yml")).unwrap();
        assert!(reread(&files, &main).0, "a file less");
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_watched_too() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("prometheus.yml");
        let (config, files) = load(&Sources::Prometheus(main.clone()), Reading::First);
        assert!(config.is_err());
        let before = files.fingerprint();
        assert!(!files.have_changed());
        fs::write(&main, "scrape_configs: [{job_name: a}, {job_name").unwrap();
        let (changed, files) = reread(&files, &main);
        assert!(changed && !files.have_changed());
        assert_ne!(files.fingerprint(), before);
    }

    #[test]
    fn the_swap_of_a_kubernetes_volume_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in
            [("..2026_1", "scrape_configs: [{job_name: a}]"), ("..2026_2", "scrape_configs: []")]
        {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("prometheus.yml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..2026_1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/prometheus.yml", path("prometheus.yml")).unwrap();
        let (_, files) = load(&Sources::Prometheus(path("prometheus.yml")), Reading::First);
        assert!(!files.have_changed());
        std::os::unix::fs::symlink("..2026_2", path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert!(files.have_changed());
    }

    #[test]
    fn a_pipe_is_read_at_the_start_only() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"scrape_configs: [{job_name: a}]\n").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let sources = Sources::Prometheus(path.into());
        let (config, files) = load(&sources, Reading::First);
        assert_eq!(config.unwrap().jobs.len(), 1);
        assert!(!files.have_changed());
        let (config, files) = load(&sources, Reading::Again);
        assert!(config.unwrap_err().to_string().contains("read at the start"));
        assert!(!files.have_changed());
    }

    #[test]
    fn of_named_files_only_news_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let (token, gone) = (folder.path().join("token"), folder.path().join("gone"));
        fs::write(&token, "one").unwrap();
        let named = || {
            [(&token, "job a"), (&token, "job b"), (&gone, "job c")]
                .map(|(path, by)| (path.clone(), by.to_owned()))
        };
        let mut files = NamedFiles::default();
        let mut look = || {
            let findings = files.look(named());
            let told = findings.into_iter().map(|finding| {
                let name = finding.path.file_name().unwrap().to_str().unwrap().to_owned();
                let news = match finding.news {
                    News::Changed => "changed",
                    News::Unreadable(_) => "unreadable",
                    News::ReadableAgain => "readable",
                };
                format!("{name} {news} {}", finding.named_by)
            });
            told.collect::<Vec<_>>()
        };
        // What can't be read when the configuration is, is said by whoever reads that.
        assert!(look().is_empty());
        assert!(look().is_empty());
        fs::write(&token, "two").unwrap();
        assert_eq!(look(), ["token changed job a, and 1 more"]);
        fs::write(&gone, "here").unwrap();
        fs::remove_file(&token).unwrap();
        assert_eq!(look(), ["gone readable job c", "token unreadable job a, and 1 more"]);
        fs::write(&token, "two").unwrap();
        assert_eq!(look(), ["token readable job a, and 1 more"]);
        assert!(look().is_empty());
    }
}
