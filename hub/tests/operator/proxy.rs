//! The way to Postgres, with a switch: the connection that holds a claim can be cut without its hub being told.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use private_postgres::TestDatabase;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{UnixListener, UnixStream},
    sync::Notify,
    task::AbortHandle,
};

/// What Postgres calls its socket.
const SOCKET: &str = ".s.PGSQL.5432";
/// Bytes of the question whether the connection may be encrypted, which is answered by one byte.
const ENCRYPTION_ASKED: usize = 8;

pub(crate) struct Proxy {
    folder: TempDir,
    database_url: String,
    cut: Arc<Notify>,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) fn before(database: &TestDatabase) -> Self {
        let folder = tempfile::tempdir().expect("made");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("bound");
        let postgres = folder_in(&database.url()).join(SOCKET);
        let cut = Arc::new(Notify::new());
        let may_cut = Arc::clone(&cut);
        let accepting = tokio::spawn(async move {
            while let Ok((hub, _)) = listener.accept().await {
                tokio::spawn(carry(hub, postgres.clone(), Arc::clone(&may_cut)));
            }
        });
        let accepting = accepting.abort_handle();
        Self { folder, database_url: database.url(), cut, accepting }
    }

    /// Returns the database's URL by this way.
    pub(crate) fn url(&self) -> String {
        let before = folder_in(&self.database_url);
        let escape = |path: &Path| path.to_string_lossy().replace('/', "%2F");
        self.database_url.replace(&escape(&before), &escape(self.folder.path()))
    }

    /// Cuts what holds a claim at this moment: Postgres sees its end, the hub hears nothing.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn folder_in(url: &str) -> PathBuf {
    let folder = url.split_once("?host=").expect("Postgres listens at a socket").1;
    folder.replace("%2F", "/").into()
}

async fn carry(mut hub: UnixStream, postgres: PathBuf, cut: Arc<Notify>) {
    let mut postgres = UnixStream::connect(postgres).await.expect("it listens");
    let begin = introduce(&mut hub, &mut postgres).await.expect("both listen");
    // Only a claim says whose it is.
    let is_claim = begin.windows(16).any(|words| words == b"application_name");
    let is_cut = async {
        match is_claim {
            true => cut.notified().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        _ended = copy_bidirectional(&mut hub, &mut postgres) => {}
        () = is_cut => {
            drop(postgres);
            std::future::pending::<()>().await;
        }
    }
}

/// Carries what comes before any statement as far as the hub says who it is, and returns that.
async fn introduce(hub: &mut UnixStream, postgres: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut begin = vec![0; 4096];
    loop {
        let read = hub.read(&mut begin).await?;
        postgres.write_all(&begin[..read]).await?;
        if read != ENCRYPTION_ASKED {
            begin.truncate(read);
            return Ok(begin);
        }
        hub.write_u8(postgres.read_u8().await?).await?;
    }
}
