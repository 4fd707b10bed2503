//! A folder as Kubernetes mounts a ConfigMap or a Secret.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Each file is a symlink into `..data`, and that one to a folder with everything, which is replaced as a whole
/// (Kubernetes `pkg/volume/util/atomic_writer.go`).
pub(crate) struct Volume {
    path: PathBuf,
    version: usize,
}

impl Volume {
    pub(crate) fn new(path: &Path, files: &[(&str, &str)]) -> Self {
        fs::create_dir(path).unwrap();
        let mut volume = Self { path: path.to_owned(), version: 0 };
        volume.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), path.join(name)).unwrap();
        }
        volume
    }

    /// Puts these files in the place of those that are there.
    pub(crate) fn swap(&mut self, files: &[(&str, &str)]) {
        let before = self.path.join(self.folder());
        self.version += 1;
        let folder = self.folder();
        fs::create_dir(self.path.join(&folder)).unwrap();
        for (name, content) in files {
            fs::write(self.path.join(&folder).join(name), content).unwrap();
        }
        symlink(&folder, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        let _ = fs::remove_dir_all(before);
    }

    fn folder(&self) -> String {
        format!("..2026_11_23_{}", self.version)
    }
}
