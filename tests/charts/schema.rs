//! What the agent's chart refuses before anything reaches a cluster, and that the refusal names the value.

use crate::render;

/// Renders with the lab's values and one more, and returns what Helm complains about.
fn complaint(more: &[&str]) -> Option<String> {
    let mut arguments = render::lab_values();
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let rendered =
        render::template(&render::agent_chart(), "fairlead", "fairlead-system", &arguments);
    rendered.err().map(|error| error.to_string())
}

#[test]
fn a_value_that_cannot_work_is_refused_by_its_name() {
    let wrong = [
        ("hub.url=http://hub.example.com", "/hub/url"),
        ("hub.url=hub.example.com", "/hub/url"),
        ("hub.url=https://hub.example.com/some/path", "/hub/url"),
        ("hub.caCertificate=nothing", "/hub/caCertificate"),
        ("proxy.https=http://ada:secret@proxy:3128", "/proxy/https"),
        ("proxy.all=socks4://proxy", "/proxy/all"),
        ("joinToken.value=fla_wrongkind", "/joinToken/value"),
        ("joinToken.existingSecret=other", "/joinToken"),
        ("namespaces[0]=Shop", "/namespaces/0"),
        ("replicas=0", "/replicas"),
        ("guard.podCIDRs[0]=10.244.0.0", "/guard/podCIDRs/0"),
        ("image.repository=<your-registry>/fairlead-agent", "/image/repository"),
        ("image.tag=", "/image/tag"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("hubb.url=x", "hubb"),
    ];
    for (value, named) in wrong {
        let complaint = complaint(&["--set", value]).unwrap_or_else(|| panic!("{value} was taken"));
        assert!(complaint.contains(named), "{value}: {complaint}");
    }
}

#[test]
fn values_that_work_are_taken() {
    for value in [
        "hub.url=https://hub.example.com:8443/",
        "namespaces={shop,pay}",
        "joinToken.value=",
        "proxy.https=https://proxy.corp:3128",
        "proxy.all=socks5h://[fd00::1]:1080",
        "proxy.no=.corp\\,10.0.0.0/8",
        "proxy.existingSecret=corporate-proxy",
        "replicas=1",
        "guard.enabled=false",
        "logLevel=info\\,fairlead_agent=debug",
        "networkPolicy.enabled=true",
    ] {
        assert_eq!(complaint(&["--set", value]), None, "{value}");
    }
}

#[test]
fn a_chart_without_a_hub_or_an_image_says_which_values_are_missing() {
    let rendered = render::template(&render::agent_chart(), "fairlead", "fairlead-system", &[]);
    let complaint = rendered.expect_err("neither has a default").to_string();
    for named in ["/hub/url", "/image/repository", "/image/tag"] {
        assert!(complaint.contains(named), "{named}: {complaint}");
    }
}
