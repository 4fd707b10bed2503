//! An image as `scripts/image` leaves it: OCI's layout, read by OCI's specification and unpacked by umoci.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    /// The one image's name.
    pub(crate) tag: String,
    pub(crate) digest: String,
    /// The image's configuration.
    pub(crate) config: Value,
    layers: Vec<PathBuf>,
}

impl Layout {
    pub(crate) fn read(folder: &Path) -> Self {
        let json = |path: &Path| -> Value {
            let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_slice(&text).unwrap()
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            folder.join("blobs").join(digest.replace(':', "/"))
        };
        assert_eq!(json(&folder.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
        let index = json(&folder.join("index.json"));
        let [image] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("one image: {index}");
        };
        let manifest = json(&blob(image));
        Self {
            folder: folder.to_owned(),
            tag: image["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned(),
            digest: image["digest"].as_str().unwrap().to_owned(),
            config: json(&blob(&manifest["config"])),
            layers: manifest["layers"].as_array().unwrap().iter().map(blob).collect(),
        }
    }

    /// Strings of the image's `config`, such as its `Entrypoint`.
    pub(crate) fn strings(&self, key: &str) -> Vec<String> {
        let values = self.config["config"][key].as_array().unwrap();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// Everything that its layers hold, as tar lists it: mode, owner, name, and where a link leads.
    pub(crate) fn entries(&self) -> Vec<String> {
        let list = |layer: &PathBuf| {
            let listed = Command::new("tar")
                .args(["--numeric-owner", "--full-time", "--utc", "-tvzf"])
                .arg(layer)
                .output()
                .unwrap();
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            String::from_utf8(listed.stdout).unwrap()
        };
        let lines = self.layers.iter().map(list).collect::<String>();
        lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Unpacks the root file system into `bundle/rootfs`, which it returns.
    pub(crate) fn unpack(&self, bundle: &Path) -> PathBuf {
        let image = format!("{}:{}", self.folder.display(), self.tag);
        let unpacked =
            Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(bundle).output();
        let unpacked = unpacked.unwrap();
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        // umoci lets nobody else in, and it is nobody who runs it.
        fs::set_permissions(bundle, fs::Permissions::from_mode(0o755)).unwrap();
        bundle.join("rootfs")
    }
}
