//! What may stand between a client and a server: a link that is cut, and that leads elsewhere afterwards.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A TCP proxy on a port of its own.
pub struct Link {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _accepting: JoinSet<()>,
}

struct State {
    server: String,
    passing: JoinSet<()>,
}

impl Link {
    /// Passes on to `server`, as `host:port`.
    pub async fn to(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            server,
            passing: JoinSet::new(),
        }));
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&state);
        accepting.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = shared.lock().expect("no panic");
                let server = state.server.clone();
                state.passing.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        // It ends when either side does.
                        let _ended = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Ok(Self {
            address,
            state,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts what is connected; who connects from now on comes to `server`.
    pub fn cut_to(&self, server: String) {
        let mut state = self.state.lock().expect("no panic");
        state.server = server;
        state.passing.abort_all();
    }
}
