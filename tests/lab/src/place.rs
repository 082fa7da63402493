//! Where a lab keeps its files. Only paths: nothing is created here.

use crate::Host;
use anyhow::ensure;
use std::path::{Path, PathBuf};

/// The folder of all labs. Not below the folders that the lab hides from its inside (`/run`, `/var/lib`, `/var/log`).
const LABS: &str = "/var/cache/fairlead-lab";

/// The paths of one lab, by its name.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    /// Returns the place of the lab `name`; names are short because control groups and sockets carry them.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            (1..=20).contains(&name.len()) && name.bytes().all(plain),
            "`{name}` cannot name a lab: 1 to 20 of a-z, 0-9 and -"
        );
        Ok(Self { name: name.to_owned(), folder: Path::new(LABS).join(name) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder of all labs, which goes when the last lab goes.
    pub(crate) fn labs() -> &'static Path {
        Path::new(LABS)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.pki().join("admin.conf")
    }

    /// Returns the folder for what kubectl and Helm remember of the lab's cluster.
    pub(crate) fn remembered(&self) -> PathBuf {
        self.folder.join("kube-cache")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    pub(crate) fn of_host(&self, host: Host) -> PathBuf {
        self.folder.join(host.name())
    }

    pub(crate) fn home(&self, user: &str) -> PathBuf {
        self.folder.join("home").join(user)
    }

    /// Returns the control group of the whole lab, relative to each hierarchy.
    pub(crate) fn cgroup(&self) -> PathBuf {
        PathBuf::from(format!("fairlead-lab-{}", self.name))
    }

    /// Returns the socket of a node's containerd, inside the lab.
    pub(crate) fn containerd(host: Host) -> String {
        format!("/run/containerd-{host}.sock")
    }

    /// Returns the file that holds a host's network namespace, inside the lab.
    pub(crate) fn network(host: Host) -> PathBuf {
        Path::new("/run/netns").join(host.name())
    }

    /// Returns the file that names the process which holds a machine's mount namespace, inside the lab.
    pub(crate) fn mounts(host: Host) -> PathBuf {
        Path::new("/run/mounts").join(host.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_the_folder_is_refused() {
        for name in ["", "..", "a/b", "Lab", "a-name-that-is-far-too-long"] {
            assert!(Place::of(name).is_err(), "{name}");
        }
        assert_eq!(
            Place::of("one-2").unwrap().folder(),
            Path::new("/var/cache/fairlead-lab/one-2")
        );
    }
}
