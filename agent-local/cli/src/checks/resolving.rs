//! How this machine resolves names, and which programs rewrite what it resolves them with.

use laptop_ipc::FailureKind;

use super::Finding;

/// Programs that are known to rewrite the hosts file or resolv.conf, by the first bytes of their process names.
const REWRITERS: [(&str, &str); 14] = [
    ("vpnagentd", "Cisco AnyConnect"),
    ("openvpn", "OpenVPN"),
    ("openconnect", "OpenConnect"),
    ("vpnc", "vpnc"),
    ("warp-svc", "Cloudflare WARP"),
    ("PanGPS", "GlobalProtect"),
    ("gpd", "GlobalProtect"),
    ("ZSTunnel", "Zscaler"),
    ("zsaservice", "Zscaler"),
    ("forticlient", "FortiClient"),
    ("tailscaled", "Tailscale"),
    ("mullvad-daemon", "Mullvad VPN"),
    ("nordvpnd", "NordVPN"),
    ("wg-quick", "WireGuard"),
];

/// Reads `/etc/nsswitch.conf`: our names stand in the hosts file, so that one must be asked first.
pub(crate) fn order(nsswitch: &str) -> Finding {
    const CHECK: &str = "name order";
    let hosts = nsswitch.lines().filter_map(|line| line.trim().strip_prefix("hosts:")).next_back();
    let Some(hosts) = hosts else {
        return Finding::ok(CHECK, "the C library's own: the hosts file first");
    };
    let hosts = hosts.split('#').next().unwrap_or_default();
    let sources: Vec<&str> = hosts.split_whitespace().filter(|s| !s.starts_with('[')).collect();
    let at = |wanted: &str| sources.iter().position(|source| *source == wanted);
    let advice =
        "put `files` before `dns`, `resolve` and `mdns` in the line `hosts:` of /etc/nsswitch.conf";
    match at("files") {
        None => Finding::problem(
            CHECK,
            FailureKind::LaptopNetwork,
            format!("the hosts file is not asked at all (hosts:{})", hosts.trim_end()),
            advice,
        ),
        Some(files) => {
            let earlier =
                sources.iter().take(files).find(|s| !matches!(**s, "myhostname" | "mymachines"));
            match earlier {
                None => Finding::ok(CHECK, "the hosts file first"),
                Some(first) => Finding::problem(
                    CHECK,
                    FailureKind::LaptopNetwork,
                    format!("`{first}` is asked before the hosts file (/etc/nsswitch.conf)"),
                    advice,
                ),
            }
        }
    }
}

/// Looks for programs that rewrite the hosts file or resolv.conf.
pub(crate) fn rewriters(processes: &[String]) -> Finding {
    const CHECK: &str = "rewriters";
    let is_running = |name: &str| processes.iter().any(|process| process.starts_with(name));
    let mut found: Vec<&str> = REWRITERS
        .iter()
        .filter(|(name, _)| is_running(name))
        .map(|(_, program)| *program)
        .collect();
    found.dedup();
    if found.is_empty() {
        return Finding::ok(CHECK, "no program is known to rewrite the hosts file or resolv.conf");
    }
    Finding::warning(
        CHECK,
        format!("{} may rewrite the hosts file or resolv.conf", found.join(", ")),
        "what it removes of ours is put back 3 times a minute; `fairlead status` says when that is not enough. \
         Nothing of ours needs resolv.conf or a route",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::State;

    #[test]
    fn a_hosts_file_that_is_not_asked_first_is_a_problem() {
        for fine in [
            "",
            "hosts: files dns\n",
            "hosts:\tfiles mdns4_minimal [NOTFOUND=return] dns # ok\n",
            "hosts: myhostname files resolve",
            "passwd: dns\nhosts: files",
        ] {
            assert_eq!(order(fine).state, State::Ok, "{fine}");
        }
        for (wrong, named) in [
            ("hosts: dns files", "`dns`"),
            ("hosts: resolve [!UNAVAIL=return] files dns", "`resolve`"),
            ("hosts: dns", "not asked at all"),
            ("hosts: dns # files", "not asked at all"),
        ] {
            let found = order(wrong);
            assert_eq!(
                (found.state, found.kind),
                (State::Problem, Some(FailureKind::LaptopNetwork))
            );
            assert!(found.message.contains(named), "{found:?}");
        }
    }

    #[test]
    fn a_vpn_that_rewrites_files_is_named() {
        let running = |names: &[&str]| {
            rewriters(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(running(&["bash", "systemd"]).state, State::Ok);
        let found = running(&["PanGPS", "gpd", "openvpn"]);
        assert!(found.message.starts_with("OpenVPN, GlobalProtect may rewrite"), "{found:?}");
    }
}
