//! Why a machine does not let a user have namespaces, and what lifts it.

use std::{fs, path::Path};

use laptop_ipc::FailureKind;
use nix::{errno::Errno, unistd::Uid};

use crate::errors::CliError;

/// What a machine says about namespaces of users.
#[derive(Debug, Clone, Default)]
struct Rules {
    is_root: bool,
    /// `user.max_user_namespaces`
    most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, where a distribution has it
    switch: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`
    apparmor: Option<u64>,
    is_container: bool,
}

/// Says what the kernel refused, why it may be, and what to do about it.
pub(super) fn explained(errno: Errno) -> CliError {
    let (why, hint) = rules().explain(errno);
    CliError::new(
        FailureKind::LaptopNetwork,
        format!("no program can have names of its own here: {why}"),
        hint,
    )
}

impl Rules {
    fn explain(&self, errno: Errno) -> (String, String) {
        let or_root =
            "or use the supervisor, which root starts once: fairlead start, then fairlead consume";
        let said = |why: &str, hint: &str| (why.to_owned(), format!("{hint}; {or_root}"));
        if self.most == Some(0) && errno == Errno::ENOSPC {
            return said(
                "this machine allows no user namespace",
                "lift it: sudo sysctl user.max_user_namespaces=15000",
            );
        }
        if self.is_container {
            return said(
                &format!("this container may not make namespaces ({errno})"),
                "give it the right to: docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined",
            );
        }
        if self.switch == Some(0) && !self.is_root {
            return said(
                "this machine allows user namespaces to root only",
                "lift it: sudo sysctl kernel.unprivileged_userns_clone=1",
            );
        }
        if self.apparmor == Some(1) && !self.is_root {
            return said(
                "AppArmor allows user namespaces only to programs with a profile",
                "install Fairlead's: sudo cp deploy/apparmor/fairlead /etc/apparmor.d/ && sudo apparmor_parser -r \
                 /etc/apparmor.d/fairlead",
            );
        }
        if errno == Errno::ENOSPC {
            return said(
                "there are as many namespaces as this machine allows",
                "end some, or raise user.max_user_namespaces and user.max_mnt_namespaces",
            );
        }
        said(
            &format!("the kernel refuses user and mount namespaces ({errno})"),
            "docs/guides/rootless.md says what they need",
        )
    }
}

fn rules() -> Rules {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let of_kubernetes = "/var/run/secrets/kubernetes.io";
    Rules {
        is_root: Uid::effective().is_root(),
        most: number("/proc/sys/user/max_user_namespaces"),
        switch: number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        is_container: marks.into_iter().chain([of_kubernetes]).any(|path| Path::new(path).exists()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_comes_with_what_lifts_it() {
        let cases = [
            (Rules { most: Some(0), ..Rules::default() }, "user.max_user_namespaces=15000"),
            (Rules { switch: Some(0), ..Rules::default() }, "unprivileged_userns_clone=1"),
            (Rules { apparmor: Some(1), ..Rules::default() }, "apparmor_parser"),
            (Rules { is_container: true, apparmor: Some(1), ..Rules::default() }, "SYS_ADMIN"),
            (
                Rules { is_root: true, switch: Some(0), apparmor: Some(1), ..Rules::default() },
                "rootless.md",
            ),
        ];
        for (rules, remedy) in cases {
            let errno = if rules.most.is_some() { Errno::ENOSPC } else { Errno::EPERM };
            let (why, hint) = rules.explain(errno);
            assert!(hint.contains(remedy) && hint.contains("fairlead start"), "{why}: {hint}");
        }
        let (why, _) = Rules::default().explain(Errno::ENOSPC);
        assert!(why.contains("as many"), "{why}");
    }
}
