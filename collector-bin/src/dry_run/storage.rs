//! The storage path, looked at and not touched.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

/// What would be found there at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StorageSight {
    /// The path.
    pub(super) path: PathBuf,
    /// Whether it would have to be made first.
    pub(super) is_new: bool,
    /// Bytes that can be written there, or why nothing can be.
    pub(super) free_bytes: Result<u64, String>,
}

impl StorageSight {
    /// Looks at a path, and where it is not there at what it would be made in.
    pub(super) fn of(path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let existing = absolute.ancestors().find(|path| path.symlink_metadata().is_ok());
        let existing = existing.unwrap_or_else(|| Path::new("/"));
        let is_new = existing != absolute;
        let free_bytes = match existing.metadata() {
            Err(error) => Err(reason(&error)),
            Ok(metadata) if !metadata.is_dir() => Err(format!("{} is no directory", existing.display())),
            Ok(_) => access(existing, Access::WRITE_OK | Access::EXEC_OK)
                .and_then(|()| statvfs(existing))
                .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
                .map_err(|error| reason(&error.into())),
        };
        Self { path: path.to_owned(), is_new, free_bytes }
    }
}

/// Without the number that says nothing to a reader.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_judged_by_what_is_there_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let there = StorageSight::of(folder.path());
        assert!(!there.is_new && there.free_bytes.is_ok_and(|free| free > 0));
        let new = folder.path().join("a/b");
        let sight = StorageSight::of(&new);
        assert!(sight.is_new && sight.free_bytes.is_ok());
        assert!(!folder.path().join("a").exists());
        let beneath_a_file = StorageSight::of(&file.join("data"));
        assert_eq!(beneath_a_file.free_bytes, Err(format!("{} is no directory", file.display())));
    }
}
