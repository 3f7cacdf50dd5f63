//! `server`: sockets, sizes and times.

use std::{net::SocketAddr, time::Duration};

use super::{
    BadValue,
    address::parse_address,
    legacy::Legacy,
    memory::{Budget, MemoryLimit, Share},
    or_auto::{MebibytesOrAuto, OrAuto},
    section::{in_range, mebibytes, section},
    text::Text,
    tls::RawServerTls,
    workers::{RawWorkerCount, WorkerCount, n_cores},
};
use lipsync_core::saturate::{u32_of, u64_of, usize_of};

section! {
    /// `server`, as it is written.
    RawServer in "server";
    cold port: Text = ":50051";
    cold max_message_size_mb: u32 = 50, 1..=1024;
    cold max_unsent_mb: MebibytesOrAuto = OrAuto::Auto;
    cold max_upload_mb: MebibytesOrAuto = OrAuto::Auto;
    cold peer_share_percent: u32 = 80, 1..=100;
    cold tenant_share_percent: u32 = 80, 1..=100;
    cold open_inference: bool = true;
    cold max_connection_age_s: u32 = 0, 0..=31_536_000;
    cold max_connection_grace_s: u32 = 0, 0..=86_400;
    cold worker_count: RawWorkerCount = RawWorkerCount::Fixed(4);
    cold queue_size: u32 = 100, 1..=1_000_000;
    hot max_batch_frames: u32 = 64, 1..=4096;
    hot request_timeout_ms: u64 = 30_000, 1..=3_600_000;
    hot pre_drain_ms: u64 = 0, 0..=600_000;
    hot shutdown_grace_s: u64 = 30, 0..=3600;
    hot load_reports: bool = false;
    + tls: RawServerTls;
}

/// `server`, as far as it holds until the server ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Where gRPC listens.
    pub address: SocketAddr,
    /// Largest message, both ways.
    pub max_message_bytes: usize,
    /// Unary answers that are being made or not read yet, all together.
    pub max_unsent_bytes: usize,
    /// Messages of calls on their way in and until they are answered, all together.
    pub max_upload_bytes: usize,
    /// What one address may hold of each kind of place and memory that clients share, percent.
    pub peer_share_percent: u32,
    /// The same for one tenant, where there are several.
    pub tenant_share_percent: u32,
    /// How old a connection may get.
    pub max_age: MaxAge,
    /// Whether the Open Inference Protocol is served beside the server's own.
    pub open_inference: bool,
    /// Which protocols of servers that came before are served, too.
    pub legacy: Legacy,
    /// Worker threads, and whether their number follows the load.
    pub workers: WorkerCount,
    /// Requests that may wait.
    pub queue_capacity: usize,
}

impl ServerLimits {
    /// Whether an address is one client. One that may have all stands for many: it is a proxy's.
    pub(crate) fn tells_peers_apart(&self) -> bool {
        self.peer_share_percent < 100
    }
}

/// How old a connection may get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaxAge {
    /// From then on it takes no new call; `None`: it may get as old as it likes.
    pub after: Option<Duration>,
    /// What its calls may take to end; `None`: as long as they last.
    pub grace: Option<Duration>,
}

/// `server`, as far as it may change while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Frames of one request.
    pub max_batch_frames: usize,
    /// Longest time that one request may take.
    pub request_timeout: Duration,
    /// Between "not serving" and refusing new work.
    pub pre_drain: Duration,
    /// For what runs to finish.
    pub shutdown_grace: Duration,
    /// Every unary answer tells load balancers how the server is.
    pub load_reports: bool,
}

const UNSENT: &str = "server.max_unsent_mb";
const UNSENT_SHARE: Share = Share {
    sixteenths: 2,
    at_most: 1 << 30,
};
const UPLOAD: &str = "server.max_upload_mb";
const UPLOAD_SHARE: Share = Share {
    sixteenths: 1,
    at_most: 1 << 29,
};

impl RawServer {
    /// The budgets that this has made of the section.
    pub(super) fn budgets(&self, server: &ServerLimits) -> [Budget; 2] {
        [
            Budget {
                key: UNSENT,
                bytes: u64_of(server.max_unsent_bytes),
                is_auto: self.max_unsent_mb() == OrAuto::Auto,
            },
            Budget {
                key: UPLOAD,
                bytes: u64_of(server.max_upload_bytes),
                is_auto: self.max_upload_mb() == OrAuto::Auto,
            },
        ]
    }

    /// `is_cpu`: networks run there, as far as the configuration says.
    pub(super) fn check(
        &self,
        (legacy, memory): (Legacy, Option<MemoryLimit>),
        is_cpu: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(ServerLimits, RequestLimits), BadValue> {
        let workers = self.worker_count().check(is_cpu, n_cores(), warnings)?;
        let queue = self.queue_size()?;
        let frames = self.max_batch_frames()?;
        let message = self.max_message_size_mb()?;
        // The largest answer, and the largest message, must fit.
        let budget = |key, written: MebibytesOrAuto, share: Share| match written {
            OrAuto::Value(mb) => in_range(key, mb.into(), message..=1_048_576),
            OrAuto::Auto => Ok(message.max(share.of(memory) >> 20)),
        };
        let unsent = budget(UNSENT, self.max_unsent_mb(), UNSENT_SHARE)?;
        let upload = budget(UPLOAD, self.max_upload_mb(), UPLOAD_SHARE)?;
        let share = u32_of(self.peer_share_percent()?);
        let tenant_share = u32_of(self.tenant_share_percent()?);
        let requests = RequestLimits {
            max_batch_frames: usize_of(frames),
            request_timeout: Duration::from_millis(self.request_timeout_ms()?),
            pre_drain: Duration::from_millis(self.pre_drain_ms()?),
            shutdown_grace: Duration::from_secs(self.shutdown_grace_s()?),
            load_reports: self.load_reports(),
        };
        let server = ServerLimits {
            address: parse_address("server.port", self.port())?,
            max_message_bytes: mebibytes(message),
            max_unsent_bytes: mebibytes(unsent),
            max_upload_bytes: mebibytes(upload),
            peer_share_percent: share,
            tenant_share_percent: tenant_share,
            max_age: self.max_age()?,
            open_inference: self.open_inference(),
            legacy,
            workers,
            queue_capacity: usize_of(queue),
        };
        Ok((server, requests))
    }

    /// 0 is no limit.
    fn max_age(&self) -> Result<MaxAge, BadValue> {
        let limit = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        let grace = limit(self.max_connection_grace_s()?);
        let after = limit(self.max_connection_age_s()?);
        Ok(MaxAge { after, grace })
    }
}
