//! The cluster's keys: one authority, one certificate per component, a kubeconfig beside each.

use crate::{Host, place::Place, run};
use anyhow::Context;
use std::{fs, path::Path, process::Command};

/// Days; a lab lives for hours.
const VALID: &str = "30";

/// The machine's own configuration would add extensions of its own.
const NO_DEFAULTS: &str = "[req]\ndistinguished_name = subject\n[subject]\n";

/// The API server's names: as a Service, and by address.
const API_NAMES: &str = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:kubernetes.default.svc.cluster.local,IP:10.96.0.1,IP:127.0.0.1,IP:172.30.0.10";

/// Issues every certificate and key that Kubernetes starts with.
pub(crate) fn issue_all(place: &Place) -> anyhow::Result<()> {
    let folder = place.pki();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("openssl.cnf"), NO_DEFAULTS)?;
    new_key(&folder, "ca")
        .args(["-subj", "/CN=lab-ca", "-addext", "basicConstraints=critical,CA:TRUE"])
        .run()?;
    run::line(&format!(
        "openssl ecparam -name prime256v1 -genkey -noout -out {}/sa.key",
        folder.display()
    ))?;
    issue(&folder, "apiserver", "/CN=kube-apiserver", API_NAMES)?;
    for (name, subject) in [
        ("admin", "/O=system:masters/CN=admin"),
        ("controllers", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("proxy", "/CN=system:kube-proxy"),
    ] {
        issue(&folder, name, subject, &format!("DNS:{name}"))?;
    }
    Host::NODES.into_iter().try_for_each(|node| {
        let subject = format!("/O=system:nodes/CN=system:node:{node}");
        issue(&folder, node.name(), &subject, &format!("DNS:{node},IP:{}", node.address()))
    })
}

fn issue(folder: &Path, name: &str, subject: &str, alternative_names: &str) -> anyhow::Result<()> {
    new_key(folder, name)
        .args(["-CA", "ca.crt", "-CAkey", "ca.key", "-subj", subject])
        .args(["-addext", &format!("subjectAltName={alternative_names}")])
        .args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .run()
        .with_context(|| format!("no certificate for {name}"))?;
    fs::write(folder.join(format!("{name}.conf")), kubeconfig(folder, name))?;
    Ok(())
}

/// A kubeconfig that names its files, so that a lab's secrets lie in one folder only.
fn kubeconfig(folder: &Path, name: &str) -> String {
    let (folder, api) = (folder.display(), Host::Api.address());
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{ name: lab, cluster: {{ server: 'https://{api}:6443', certificate-authority: '{folder}/ca.crt' }} }}]
users: [{{ name: {name}, user: {{ client-certificate: '{folder}/{name}.crt', client-key: '{folder}/{name}.key' }} }}]
contexts: [{{ name: lab, context: {{ cluster: lab, user: {name} }} }}]
current-context: lab
"
    )
}

/// `openssl req` that makes a key and its certificate in one go.
struct Request(Command);

fn new_key(folder: &Path, name: &str) -> Request {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["req", "-x509", "-new", "-nodes", "-days", VALID]);
    command.args(["-config", "openssl.cnf"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    Request(command)
}

impl Request {
    fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.0.args(arguments);
        self
    }

    fn run(mut self) -> anyhow::Result<String> {
        run::output(&mut self.0)
    }
}
