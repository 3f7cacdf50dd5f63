//! What the parts of the server need to know of the configuration, in their own terms.

use std::net::SocketAddr;

use lipsync_core::saturate::u64_of;
use lipsync_serving::{admission, answer_limit::AnswerLimit, live};

use super::{Config, RequestLimits, ServerLimits, SessionLimits};

impl Config {
    /// How many places there are.
    #[must_use]
    pub fn admission(&self) -> admission::Limits {
        let server = &self.server;
        admission::Limits {
            queue_capacity: server.queue_capacity,
            n_workers: server.workers.max(),
            max_sessions: self.session.max_sessions,
            max_upload_bytes: server.max_upload_bytes,
            max_unsent_bytes: server.max_unsent_bytes,
            peer_share_percent: server.peer_share_percent,
            tenant_share_percent: server.tenant_share_percent,
        }
    }
}

impl Config {
    /// What to say where everybody who reaches a port may do everything, and a port is reached from other machines.
    #[must_use]
    pub fn exposure(&self) -> Option<String> {
        let operations = self.operations.as_ref();
        let ports = [
            ("server.port", Some(self.server.address)),
            (
                "operations.port",
                operations.map(|operations| operations.address),
            ),
        ];
        let is_open = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        let open = ports.iter().filter_map(|(key, address)| {
            let address = (*address).filter(is_open)?;
            Some(format!("{key} {address}"))
        });
        let open: Vec<_> = open.collect();
        let is_exposed = self.tenants.is_empty() && !open.is_empty();
        is_exposed.then(|| {
            format!(
                "there are no tenants, so whoever reaches {} may use every model and unload it; \
                 add tenants, or listen on 127.0.0.1",
                open.join(" and ")
            )
        })
    }
}

impl ServerLimits {
    /// How large an answer may be.
    #[must_use]
    pub fn answers(&self) -> AnswerLimit {
        AnswerLimit {
            max_bytes: u64_of(self.max_message_bytes),
        }
    }
}

impl SessionLimits {
    /// Bounds of sessions, on a server of such limits.
    #[must_use]
    pub fn live(&self, server: &ServerLimits, requests: &RequestLimits) -> live::Limits {
        live::Limits {
            max_buffered_audio_s: self.max_buffered_audio_s,
            max_unsent_ms: self.max_unsent_ms,
            idle_timeout: self.idle_timeout,
            send_timeout: self.send_timeout,
            lag_timeout: self.lag_timeout,
            max_session: self.max_session,
            max_batch_frames: requests.max_batch_frames,
            answers: server.answers(),
        }
    }
}
