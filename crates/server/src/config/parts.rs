//! What the parts of the server need to know of the configuration, in their own terms.

use lipsync_core::saturate::u64_of;
use lipsync_serving::{admission, answer_limit::AnswerLimit, live};

use super::{Config, RequestLimits, ServerLimits, SessionLimits, Tls};

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
    /// What to say where a port can be reached from other machines and everybody may do everything, or keys can be read on
    /// their way.
    #[must_use]
    pub fn exposure(&self) -> Option<String> {
        if self.tenants.is_empty() {
            // Who has a certificate is known at least to the authority.
            let open = self.open_ports(|tls| tls.is_none_or(|tls| tls.client_ca.is_none()))?;
            return Some(format!(
                "there are no tenants, so whoever reaches {open} may use every model and unload it; \
                 add tenants, or listen on 127.0.0.1"
            ));
        }
        let open = self.open_ports(|tls| tls.is_none())?;
        Some(format!(
            "keys of tenants travel in clear to {open}; set tls there, or listen on 127.0.0.1 behind a TLS proxy"
        ))
    }

    /// The ports that other machines reach, of those whose encryption is so; `None` if there are none.
    fn open_ports(&self, is_so: impl Fn(Option<&Tls>) -> bool) -> Option<String> {
        let operations = self.operations.as_ref();
        let operations =
            operations.map(|page| ("operations.port", page.address, page.tls.as_ref()));
        let grpc = ("server.port", self.server.address, self.tls.as_ref());
        let open = [Some(grpc), operations].into_iter().flatten();
        let open = open
            .filter(|(_, address, tls)| !address.ip().to_canonical().is_loopback() && is_so(*tls));
        let open: Vec<_> = open
            .map(|(key, address, _)| format!("{key} {address}"))
            .collect();
        (!open.is_empty()).then(|| open.join(" and "))
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
