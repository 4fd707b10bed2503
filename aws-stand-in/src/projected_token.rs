//! A projected token as the kubelet keeps it in a pod.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::random;

/// A token file that changes as the kubelet's do: the file is a link into the folder that `..data` links to, and a new
/// token comes by swapping `..data` (Kubernetes `pkg/volume/util/atomic_writer.go`).
#[derive(Debug)]
pub struct ProjectedToken {
    folder: PathBuf,
}

impl ProjectedToken {
    /// Lays it out in `folder`, which is made where it is missing.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(folder: impl Into<PathBuf>, token: &str) -> Self {
        let projected = Self { folder: folder.into() };
        fs::create_dir_all(&projected.folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", projected.folder.display()));
        projected.write(token);
        projected
    }

    /// The file to read: `FOLDER/token`.
    pub fn path(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// Swaps the token; who opens the file reads the old one or the new, never a part.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(&self, token: &str) {
        self.swap(token).unwrap_or_else(|error| panic!("cannot write {}: {error}", self.folder.display()));
    }

    fn swap(&self, token: &str) -> io::Result<()> {
        let name = format!("..{}", random::hex::<8>());
        let version = self.folder.join(&name);
        fs::create_dir(&version)?;
        fs::write(version.join("token"), token)?;
        let (next, data) = (self.folder.join("..data_tmp"), self.folder.join("..data"));
        symlink(&name, &next)?;
        let before = fs::read_link(&data).ok();
        fs::rename(&next, &data)?;
        if before.is_none() {
            symlink(Path::new("..data").join("token"), self.path())?;
        }
        before.map_or(Ok(()), |before| fs::remove_dir_all(self.folder.join(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_whole_tokens_only() {
        let folder = tempfile::tempdir().unwrap();
        let token = ProjectedToken::new(folder.path().join("serviceaccount"), "0");
        let path = token.path();
        let reader = std::thread::spawn(move || {
            let mut last = 0;
            while last < 50 {
                // The kubelet leaves no gap: the link resolves at any time, though its folder may go while it is read.
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let number: u32 = text.parse().unwrap();
                assert!(number >= last);
                last = number;
            }
        });
        for number in 1..=50 {
            token.write(&number.to_string());
        }
        reader.join().unwrap();
        assert_eq!(fs::read_dir(token.path().parent().unwrap()).unwrap().count(), 3);
    }
}
