//! What the server says of itself when it starts.

use std::{fmt, net::SocketAddr};

use crate::{
    config::WorkerCount,
    gpus::{GpuStatus, InWords},
};

/// The start-up banner: version, device, workers, models, addresses, and what protects them.
#[derive(Debug)]
pub struct Banner<'a> {
    /// Where gRPC listens.
    pub address: SocketAddr,
    /// Whether each of the ports of gRPC and of the page is encrypted.
    pub tls: (bool, bool),
    /// Whether callers need a key or a certificate of a tenant.
    pub has_tenants: bool,
    /// Where the page is, unless it is switched off.
    pub operations: Option<SocketAddr>,
    /// What runs the networks.
    pub device: &'a str,
    /// How the GPUs are among it, where that is known.
    pub gpus: Vec<GpuStatus>,
    /// Worker threads.
    pub workers: WorkerCount,
    /// Places in the queue.
    pub queue_capacity: usize,
    /// Ids of the configured models, and of each that is loaded in which numbers it runs, and why.
    pub models: Vec<(String, Option<String>)>,
}

/// Ids beyond this many are only counted.
const MAX_IDS: usize = 8;

impl Banner<'_> {
    /// Protections that are off, by the sections that would switch them on.
    fn off(&self) -> Vec<&'static str> {
        let has_page = self.operations.is_some();
        let all = [
            (!self.tls.0, "encryption of gRPC (server.tls)"),
            (has_page && !self.tls.1, "of the page (operations.tls)"),
            (!self.has_tenants, "keys (tenants)"),
        ];
        let off = all.into_iter().filter(|(is_off, _)| *is_off);
        off.map(|(_, what)| what).collect()
    }

    /// The same as one line of the log.
    pub fn log(&self) {
        tracing::info!(
            address = %self.address,
            operations = self.operations.map(tracing::field::display),
            version = env!("CARGO_PKG_VERSION"),
            device = self.device,
            workers = %self.workers,
            queue = self.queue_capacity,
            models = self.models.len(),
            off = self.off().join(", "),
            "ready"
        );
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_models = self.models.len();
        let mut ids: Vec<String> = self
            .models
            .iter()
            .take(MAX_IDS)
            .map(|(id, precision)| match precision {
                Some(precision) => format!("{id} (ready, {precision})"),
                None => id.clone(),
            })
            .collect();
        if n_models > MAX_IDS {
            ids.push(format!("and {} more", n_models - MAX_IDS));
        }
        writeln!(f, "lipsync-server {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  device   {}", self.device)?;
        for gpu in &self.gpus {
            writeln!(f, "  gpu      {}", InWords(gpu))?;
        }
        writeln!(
            f,
            "  workers  {}, queue {}",
            self.workers, self.queue_capacity
        )?;
        writeln!(f, "  models   {n_models}: {}", ids.join(", "))?;
        write!(
            f,
            "  gRPC     {} ({}reflection and health are on)",
            self.address,
            if self.tls.0 { "TLS; " } else { "" }
        )?;
        let scheme = if self.tls.1 { "https" } else { "http" };
        match self.operations {
            None => {}
            // Browsers cannot go to "every address"; from this machine the name is right.
            Some(page) if page.ip().is_unspecified() => {
                write!(f, "\n  page     {scheme}://localhost:{}", page.port())?;
            }
            Some(page) => write!(f, "\n  page     {scheme}://{page}")?,
        }
        match self.off().as_slice() {
            [] => Ok(()),
            off => write!(f, "\n  off      {}", off.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_an_operator_looks_for() {
        let models = (0..10)
            .map(|i| {
                (
                    format!("m{i}"),
                    (i == 0).then(|| "int16: as configured".to_owned()),
                )
            })
            .collect();
        let mut banner = Banner {
            address: ([127, 0, 0, 1], 50051).into(),
            tls: (true, true),
            has_tenants: true,
            operations: Some(([0, 0, 0, 0], 8080).into()),
            device: "cpu (avx2)",
            gpus: vec![GpuStatus {
                device: "cuda:0".into(),
                temperature_c: 41,
                ..GpuStatus::default()
            }],
            workers: WorkerCount::Fixed(4),
            queue_capacity: 100,
            models,
        };
        let text = banner.to_string();
        for part in [
            "cpu (avx2)",
            "cuda:0",
            "41 °C",
            "4, queue 100",
            "10: m0 (ready, int16: as configured), m1",
            "and 2 more",
            "127.0.0.1:50051 (TLS; ",
            "https://localhost:8080",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("  off  "), "{text}");
        banner.tls = (false, false);
        banner.has_tenants = false;
        let text = banner.to_string();
        let off = "\n  off      encryption of gRPC (server.tls), of the page (operations.tls), keys (tenants)";
        assert!(text.ends_with(off), "{text}");
        (banner.tls, banner.operations) = ((true, false), None);
        assert!(banner.to_string().ends_with("\n  off      keys (tenants)"));
    }
}
