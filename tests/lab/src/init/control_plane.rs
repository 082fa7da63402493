//! etcd, the API server, the controllers and the scheduler, on the host `api`.

use super::components::Components;
use crate::{Host, run};
use std::{
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

/// Starts the control plane; the API server is ready when this returns, and the others have begun.
///
/// They begin last: the controllers give up on an API server that needs half a minute, as it does on a slow machine.
pub(crate) fn start(components: &Components<'_>) -> anyhow::Result<()> {
    let etcd = &mut components.kube(Host::Api, "etcd");
    components.start("etcd", with_flags(etcd, components, ETCD))?;
    let api = &mut components.kube(Host::Api, "kube-apiserver");
    components.start("apiserver", with_flags(api, components, API_SERVER))?;
    wait_for_api(components)?;
    let controllers = &mut components.kube(Host::Api, "kube-controller-manager");
    components.start("controllers", with_flags(controllers, components, CONTROLLERS))?;
    let scheduler = &mut components.kube(Host::Api, "kube-scheduler");
    components.start("scheduler", with_flags(scheduler, components, SCHEDULER))
}

/// Waits until both nodes exist and are ready.
pub(crate) fn wait_for_nodes(components: &Components<'_>) -> anyhow::Result<()> {
    components.wait_until("two nodes are ready", Duration::from_millis(200), || {
        let query = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        let answer = run::output(components.kubectl().args(["get", "nodes", "--output", query]));
        answer.is_ok_and(|statuses| statuses.trim() == "True True")
    })
}

/// Asks for a connection first, which is cheap, and only then with a program of 140 MB.
fn wait_for_api(components: &Components<'_>) -> anyhow::Result<()> {
    let address = SocketAddr::from((Host::Api.address(), 6443));
    let every = Duration::from_millis(100);
    std::thread::scope(|scope| {
        let listening = scope.spawn(|| {
            super::network::join(Host::Api)?;
            components.wait_until("the API server listens", every, || {
                TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
            })
        });
        listening.join().expect("a connection attempt does not panic")
    })?;
    components.wait_until("the API server is ready", every, || {
        let mut ask = components.kubectl();
        let ask = ask.args(["get", "--raw", "/readyz"]);
        ask.stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

fn with_flags<'c>(
    command: &'c mut Command,
    components: &Components<'_>,
    flags: &str,
) -> &'c mut Command {
    let (pki, data) = (components.place.pki(), components.place.of_host(Host::Api));
    let flags = flags.replace("{pki}", &pki.display().to_string());
    let flags = flags.replace("{data}", &data.display().to_string());
    command.args(flags.split_whitespace())
}

/// Without fsync: a lab's data does not outlive it.
const ETCD: &str = "
--data-dir={data}/etcd --unsafe-no-fsync --log-level=warn
--listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
--listen-peer-urls=http://127.0.0.1:2380";

const API_SERVER: &str = "
--etcd-servers=http://127.0.0.1:2379
--bind-address=0.0.0.0 --advertise-address=172.30.0.10 --service-cluster-ip-range=10.96.0.0/16
--tls-cert-file={pki}/apiserver.crt --tls-private-key-file={pki}/apiserver.key --client-ca-file={pki}/ca.crt
--service-account-issuer=https://kubernetes.default.svc
--service-account-signing-key-file={pki}/sa.key --service-account-key-file={pki}/sa.key
--kubelet-client-certificate={pki}/admin.crt --kubelet-client-key={pki}/admin.key
--kubelet-certificate-authority={pki}/ca.crt --kubelet-preferred-address-types=InternalIP
--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true";

/// Its own pace of 20 requests a second would spend four seconds on starting.
const CONTROLLERS: &str = "
--kubeconfig={pki}/controllers.conf --leader-elect=false --use-service-account-credentials
--kube-api-qps=1000 --kube-api-burst=1000
--service-account-private-key-file={pki}/sa.key --root-ca-file={pki}/ca.crt";

const SCHEDULER: &str = "--kubeconfig={pki}/scheduler.conf --leader-elect=false";
