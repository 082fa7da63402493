//! The identity provider of the lab, on loopback.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running provider; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Issuer {
    process: Child,
    port: u16,
    return_to: String,
}

impl Issuer {
    /// Starts a provider that sends browsers back to `return_to`.
    pub(crate) fn start(return_to: &str) -> Self {
        Self::on_port(crate::world::free_port(), return_to, &BTreeMap::new())
    }

    /// Starts it again, with other groups for some people.
    pub(crate) fn restart_with(self, groups: &[(&str, &[&str])]) -> Self {
        let (port, return_to) = (self.port, self.return_to.clone());
        drop(self);
        Self::on_port(port, &return_to, &groups.iter().copied().collect())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn on_port(port: u16, return_to: &str, groups: &BTreeMap<&str, &[&str]>) -> Self {
        let settings = json!({
            "issuer": format!("http://127.0.0.1:{port}"),
            "port": port,
            "redirectUris": [return_to],
            "groups": groups,
        });
        let process = Command::new("node")
            .arg(fairlead_lab::issuer_program().expect("npm installs the provider"))
            .arg(settings.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Node.js is installed");
        let issuer = Self { process, port, return_to: return_to.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the provider does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        issuer
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // It holds nothing that would be worth an orderly end.
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}
