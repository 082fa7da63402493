//! An ingress in front of the hub, as it is set up most often: nginx. It ends TLS and speaks HTTP/2 with whoever comes;
//! to the hub it speaks HTTP/1.1, and keeps what is said until it is complete.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use fairlead_lab::{Host, Lab};

use crate::{command::say, hub, line::Tied, patience::within, world::World};

const PORT: u16 = 9443;
const TABLE: &str = "ingress";
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Everybody who comes from elsewhere gets to it in place of the hub; dropping this removes it.
#[derive(Debug)]
pub struct Ingress<'w> {
    lab: &'w Lab,
    _nginx: Tied,
}

impl<'w> Ingress<'w> {
    /// Starts it and leads whoever comes anew there. The raw port is closed.
    pub fn before(world: &'w World) -> anyhow::Result<Self> {
        let (lab, folder) = (world.lab(), world.folder().join("ingress"));
        fs::create_dir_all(&folder)?;
        let settings = folder.join("nginx.conf");
        fs::write(&settings, configuration(&folder, &world.folder().join("hub")))?;
        let mut nginx = lab.exec(Host::Hub, program()?);
        nginx.arg("-p").arg(&folder).arg("-c").arg(&settings).args(["-e", "stderr"]);
        let _nginx = Tied::start(nginx, folder.join("nginx.log"))?;
        let ingress = Self { lab, _nginx };
        within(READY_WITHIN, "the ingress listens", || ingress.listens())?;
        ingress.nft(&[&rules()])?;
        Ok(ingress)
    }

    fn listens(&self) -> anyhow::Result<()> {
        let at = (Host::Hub.address(), PORT);
        let knocking = self.lab.on(Host::Hub, move || TcpStream::connect(at))?;
        let answered = knocking.join().map_err(|_| anyhow!("a thread panicked"))?;
        Ok(answered.map(drop)?)
    }

    fn nft(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut nft = self.lab.exec(Host::Hub, "nft");
        nft.args(words);
        say(nft)?.ok()?;
        Ok(())
    }
}

impl Drop for Ingress<'_> {
    fn drop(&mut self) {
        // It fails where it was not made whole.
        self.nft(&["delete", "table", "inet", TABLE]).unwrap_or_default();
    }
}

/// Who comes from elsewhere is led to the ingress, and comes to the raw port no more.
fn rules() -> String {
    let [https, raw] = hub::PORTS;
    format!(
        "table inet {TABLE} {{
            chain led {{
                type nat hook prerouting priority dstnat
                tcp dport {https} redirect to :{PORT}
            }}
            chain closed {{
                type filter hook input priority filter
                iif != lo tcp dport {raw} reject with tcp reset
            }}
        }}"
    )
}

/// What nginx is told. Whatever is not named is as it comes: requests and answers go through its buffers.
fn configuration(folder: &Path, hub: &Path) -> String {
    let [https, _] = hub::PORTS;
    let (folder, hub) = (folder.display(), hub.display());
    format!(
        "daemon off;
        master_process off;
        pid {folder}/nginx.pid;
        events {{}}
        http {{
            access_log {folder}/visits.log;
            client_body_temp_path {folder}/bodies;
            proxy_temp_path {folder}/answers;
            fastcgi_temp_path {folder}/unused;
            uwsgi_temp_path {folder}/unused;
            scgi_temp_path {folder}/unused;
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            server {{
                listen {PORT} ssl http2;
                ssl_certificate {hub}/hub.pem;
                ssl_certificate_key {hub}/hub.key;
                location / {{
                    proxy_pass https://127.0.0.1:{https};
                    proxy_http_version 1.1;
                    proxy_set_header Host $http_host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
        }}
        "
    )
}

/// Finds nginx: of the machine, or unpacked by `cargo xtask setup`.
fn program() -> anyhow::Result<PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/packages/nginx");
    let mut all =
        ["/", unpacked].map(|folder| Path::new(folder).join("usr/sbin/nginx")).into_iter();
    all.find(|path| path.exists()).context("there is no nginx; `cargo xtask setup` brings it")
}
