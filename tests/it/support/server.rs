//! A real server in this process.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lipsync::{
    client::{Client, ConnectOptions},
    v1,
};
use lipsync_registry::NetworkLoader;
use lipsync_server::{Config, CpuLoader, RunningServer, Server};

/// What real engines keep of background frames, at most.
const VISUAL_CACHE_BYTES: u64 = 256 << 20;

/// A server that serves on a port of its own until it is shut down.
pub struct TestServer {
    running: RunningServer,
}

impl TestServer {
    /// Starts with a configuration text; relative paths in it count from `base`.
    pub async fn start(yaml: &str, base: &Path, loader: Arc<dyn NetworkLoader>) -> Result<Self> {
        let config = Config::parse(yaml, &base.join("config.yaml"), ports())?;
        let running = Server::bind(config, loader).await?.start().await?;
        Ok(Self { running })
    }

    /// Starts with a file that may be edited afterwards, on free ports unless it names some.
    pub async fn start_file(file: &Path, loader: Arc<dyn NetworkLoader>) -> Result<Self> {
        let names_ports = std::fs::read_to_string(file)?.contains("port:");
        let ports = (!names_ports).then(ports).into_iter().flatten();
        let config = Config::load_with(file, ports)?;
        let running = Server::bind(config, loader).await?.start().await?;
        Ok(Self { running })
    }

    /// Starts with the real CPU engine.
    pub async fn start_real(yaml: &str, base: &Path) -> Result<Self> {
        Self::start_cached(yaml, base, VISUAL_CACHE_BYTES).await
    }

    /// As [`Self::start_real`], with so much room for what depends on background frames alone.
    pub async fn start_cached(yaml: &str, base: &Path, visual_cache_bytes: u64) -> Result<Self> {
        let loader = CpuLoader::new(lipsync_engine::CpuIsa::Auto, visual_cache_bytes);
        Self::start(yaml, base, Arc::new(loader)).await
    }

    /// The demo avatars on the real engine, with the time that it may need on a busy machine.
    pub async fn mira() -> Result<Self> {
        let yaml = "server: {request_timeout_ms: 600000}\ncapacity: {bake: off}\n\
            models: {mira: {path: assets/avatars/mira}, tomo: {path: assets/avatars/tomo}}\n";
        Self::start_real(yaml, repository()).await
    }

    /// A new connection.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.address()).await?)
    }

    /// A new connection that shows a key.
    pub async fn client_with(&self, key: &str) -> Result<Client> {
        let options = ConnectOptions::new().api_key(key);
        Ok(options.connect(&self.address()).await?)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.running.address().to_string()
    }

    /// Where the page is: `host:port`.
    pub fn operations(&self) -> Result<String> {
        let address = self.running.operations_address().context("it is off")?;
        Ok(address.to_string())
    }

    /// The server's counters, over the wire.
    pub async fn stats(&self) -> Result<v1::GetServerStatsResponse> {
        let request = v1::GetServerStatsRequest {};
        Ok(self
            .client()
            .await?
            .server_admin()
            .get_server_stats(request)
            .await?
            .into_inner())
    }

    /// Waits until the counters satisfy a condition; gives up loudly, so that a test cannot hang.
    pub async fn until(
        &self,
        what: &str,
        condition: impl Fn(&v1::GetServerStatsResponse) -> bool,
    ) -> Result<v1::GetServerStatsResponse> {
        let given_up = Instant::now() + Duration::from_secs(60);
        loop {
            let stats = self.stats().await?;
            if condition(&stats) {
                return Ok(stats);
            }
            ensure!(
                Instant::now() < given_up,
                "still waiting until {what}: {stats:?}"
            );
            tokio::task::yield_now().await;
        }
    }

    /// The drain, as on SIGTERM; whether everything had ended by then.
    pub async fn shut_down(self) -> bool {
        self.running.shut_down().await
    }

    /// Access to the parts.
    pub fn running(&self) -> &RunningServer {
        &self.running
    }
}

/// Ports that are free, whatever the configuration says.
fn ports() -> [(String, String); 2] {
    ["LIPSYNC_SERVER__PORT", "LIPSYNC_OPERATIONS__PORT"]
        .map(|name| (name.to_owned(), "127.0.0.1:0".to_owned()))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
