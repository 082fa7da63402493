//! Proxy variables: a program that heeds them asks the proxy for cluster names, which knows none of them.

use super::Finding;
use crate::config::ProxyVariables;

const CHECK: &str = "proxy";
/// What NO_PROXY must name; each program reads some of these.
const WANTED: [&str; 3] = [".svc", ".cluster.local", "127.72.0.0/14"];

pub(crate) fn finding(variables: &ProxyVariables) -> Finding {
    if variables.set.is_empty() {
        return Finding::ok(CHECK, "no proxy variables");
    }
    let set = variables.set.join(", ");
    let missing: Vec<&str> =
        WANTED.into_iter().filter(|name| !is_named(&variables.no_proxy, name)).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("{set} is set, and NO_PROXY names the cluster"));
    }
    let joined: Vec<&str> =
        variables.no_proxy.iter().map(String::as_str).chain(missing.iter().copied()).collect();
    Finding::warning(
        CHECK,
        format!(
            "{set} is set, and NO_PROXY lacks {}: programs ask the proxy for cluster names",
            missing.join(", ")
        ),
        format!(
            "export NO_PROXY={0} no_proxy={0}, with the short names you use, such as frontend.shop",
            joined.join(",")
        ),
    )
}

fn is_named(no_proxy: &[String], wanted: &str) -> bool {
    let bare = |name: &str| name.trim_start_matches('*').trim_start_matches('.').to_owned();
    no_proxy.iter().any(|name| name == "*" || bare(name) == bare(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::State;

    fn with(set: &[&str], no_proxy: &[&str]) -> Finding {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        finding(&ProxyVariables { set: words(set), no_proxy: words(no_proxy) })
    }

    #[test]
    fn a_proxy_that_would_be_asked_for_cluster_names_is_told_with_the_remedy() {
        assert_eq!(with(&[], &[]).state, State::Ok);
        let found = with(&["http_proxy"], &["localhost", "svc"]);
        assert_eq!(found.state, State::Warning);
        assert!(found.message.contains("lacks .cluster.local, 127.72.0.0/14"), "{found:?}");
        let advice = found.advice.expect("what to do");
        assert!(advice.contains("NO_PROXY=localhost,svc,.cluster.local,127.72.0.0/14"), "{advice}");
        assert_eq!(with(&["http_proxy"], &["*"]).state, State::Ok);
        let named = ["*.svc", "cluster.local", "127.72.0.0/14"];
        assert_eq!(with(&["HTTPS_PROXY"], &named).state, State::Ok);
    }
}
