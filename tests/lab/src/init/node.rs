//! One worker: containerd, the kubelet and kube-proxy, with the images that every pod of the lab needs.

use super::components::Components;
use crate::{Host, Image, cluster::Ours, place::Place, run};
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const PAUSE: &str = "docker.io/local/pause:lab";

/// Starts containerd and waits for its socket.
pub(crate) fn start_runtime(node: Host, components: &Components<'_>) -> anyhow::Result<()> {
    let folder = components.place.of_host(node);
    fs::create_dir_all(folder.join("cni"))?;
    fs::write(folder.join("cni/10-lab.conflist"), cni(node)?)?;
    fs::write(folder.join("containerd.toml"), containerd(node, components.place))?;
    let mut command = components.program(node, "containerd");
    command.arg("--config").arg(folder.join("containerd.toml"));
    components.start(&format!("{node}-containerd"), &mut command)?;
    let socket = Place::containerd(node);
    components.wait_until(
        &format!("containerd of {node} listens"),
        Duration::from_millis(20),
        || std::os::unix::net::UnixStream::connect(&socket).is_ok(),
    )
}

/// Packs the image that every pod needs; it goes with the lab.
pub(crate) fn pack_pause(ours: &Ours, place: &Place) -> anyhow::Result<PathBuf> {
    let archive = place.folder().join("pause.tar");
    Image::new(PAUSE).program("pause", &ours.pause).write(&archive)?;
    Ok(archive)
}

/// Gives a node images.
pub(crate) fn import_images(node: Host, archives: &[&Path]) -> anyhow::Result<()> {
    for archive in archives {
        run::output(
            Command::new("ctr")
                .args([
                    "--address",
                    &Place::containerd(node),
                    "--namespace",
                    "k8s.io",
                    "images",
                    "import",
                ])
                .arg(archive),
        )?;
    }
    Ok(())
}

/// Starts the kubelet and kube-proxy.
pub(crate) fn start(node: Host, ours: &Ours, components: &Components<'_>) -> anyhow::Result<()> {
    let folder = components.place.of_host(node);
    let pki = components.place.pki();
    let resolv_conf = folder.join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 127.0.0.1\n")?;
    fs::write(folder.join("kubelet.yaml"), kubelet(node, components.place))?;
    fs::write(folder.join("proxy.yaml"), proxy(node, ours, components.place))?;

    let mut kubelet = components.kube(node, "kubelet");
    kubelet.arg("--config").arg(folder.join("kubelet.yaml"));
    kubelet.arg("--kubeconfig").arg(pki.join(format!("{node}.conf")));
    kubelet
        .arg("--root-dir")
        .arg(folder.join("kubelet"))
        .arg("--cert-dir")
        .arg(folder.join("certs"));
    kubelet.args([format!("--hostname-override={node}"), format!("--node-ip={}", node.address())]);
    components.start(&format!("{node}-kubelet"), &mut kubelet)?;

    let mut proxy = components.kube(node, "kube-proxy");
    proxy.arg("--config").arg(folder.join("proxy.yaml"));
    components.start(&format!("{node}-proxy"), &mut proxy)
}

/// The older format version: Debian's containerd does not read newer ones.
fn cni(node: Host) -> anyhow::Result<String> {
    let range = node.pod_range().context("a node has pods")?;
    let plugins = serde_json::json!([
        { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
          "ipam": { "type": "host-local", "ranges": [[{ "subnet": range }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ]);
    let list = serde_json::json!({ "cniVersion": "0.4.0", "name": "lab", "plugins": plugins });
    Ok(serde_json::to_string_pretty(&list)?)
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc dies on the pause container's score.
fn containerd(node: Host, place: &Place) -> String {
    let (folder, socket) = (place.of_host(node), Place::containerd(node));
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd-{node}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#
    )
}

/// Never evicts for lack of disk or memory: this machine is shared with whatever else runs on it.
fn kubelet(node: Host, place: &Place) -> String {
    let (folder, pki) = (place.of_host(node), place.pki());
    let (folder, pki) = (folder.display(), pki.display());
    let (cgroup, socket) = (place.cgroup(), Place::containerd(node));
    let cgroup = cgroup.display();
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}/{node}
containerRuntimeEndpoint: unix://{socket}
authentication: {{ anonymous: {{ enabled: false }}, webhook: {{ enabled: true }}, x509: {{ clientCAFile: {pki}/ca.crt }} }}
authorization: {{ mode: Webhook }}
tlsCertFile: {pki}/{node}.crt
tlsPrivateKeyFile: {pki}/{node}.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: {folder}/resolv.conf
failSwapOn: false
podLogsDir: {folder}/pod-logs
imageGCHighThresholdPercent: 100
evictionHard: {{ memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%" }}
enforceNodeAllocatable: []
"#
    )
}

/// The conntrack sysctls cannot be written in a namespace, so kube-proxy must not try.
fn proxy(node: Host, ours: &Ours, place: &Place) -> String {
    let (mode, pki) = (ours.proxy_mode.name(), place.pki());
    let pki = pki.display();
    let pace = ours
        .min_sync_period_ms
        .map(|period| format!("{mode}: {{ minSyncPeriod: {period}ms }}\n"))
        .unwrap_or_default();
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {mode}
clusterCIDR: 10.244.0.0/16
hostnameOverride: {node}
clientConnection: {{ kubeconfig: {pki}/proxy.conf }}
conntrack: {{ maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }}
{pace}"#
    )
}
