//! A link that goes dead: its ends stay connected, and nothing passes any more.

use anyhow::Result;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A TCP proxy that can fall silent.
pub struct Link {
    /// `host:port` of its near end.
    pub address: String,
    alive: watch::Sender<bool>,
}

impl Link {
    /// A link to `server`, a `host:port`.
    pub async fn to(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (alive, watched) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, server.clone(), watched.clone()));
            }
        });
        Ok(Self { address, alive })
    }

    /// From now on nothing passes, and nobody is told.
    pub fn die(&self) {
        self.alive.send_replace(false);
    }
}

async fn pass(mut near: TcpStream, server: String, mut alive: watch::Receiver<bool>) -> Result<()> {
    let mut far = TcpStream::connect(server).await?;
    let dead = async {
        // An error is the end of the test.
        let _ = alive.wait_for(|alive| !alive).await;
    };
    tokio::select! {
        biased;
        () = dead => {
            // Both sockets stay open.
            std::future::pending::<()>().await;
        }
        passed = tokio::io::copy_bidirectional(&mut near, &mut far) => { passed?; }
    }
    Ok(())
}
