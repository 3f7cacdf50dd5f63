//! The address that alerts are posted to.

use std::{fmt, time::Duration};

use http::{Uri, uri::Scheme};

use super::{BadValue, address::is_web_address};

/// Longer ones are none.
const MAX_BYTES: usize = 2048;

/// Where to post alerts, and how hard to try.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// An address of http or https with a host.
    pub url: Uri,
    /// What one try may take, from the name's lookup to the status.
    pub timeout: Duration,
    /// Tries after the first one.
    pub n_retries: u32,
}

/// Without path and query: whoever knows them may post in the server's name.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host())
            .field("timeout", &self.timeout)
            .field("n_retries", &self.n_retries)
            .finish_non_exhaustive()
    }
}

/// How hard to try, as it is written.
pub(super) struct WebhookLimits {
    pub(super) timeout_ms: u64,
    pub(super) n_retries: u32,
}

impl Webhook {
    /// What stands there is not repeated in the message: it may be secret.
    pub(super) fn parse(key: &str, text: &str, limits: WebhookLimits) -> Result<Self, BadValue> {
        let url = (text.len() <= MAX_BYTES)
            .then(|| text.parse::<Uri>().ok())
            .flatten();
        let Some(url) = url.filter(is_web_address) else {
            return Err(BadValue {
                key: key.into(),
                message: format!(
                    "expected an address such as https://alerts.example.com/hook, of http or https, without user and \
                     password, of up to {MAX_BYTES} characters; found another text of {}",
                    text.chars().count()
                ),
            });
        };
        Ok(Self {
            url,
            timeout: Duration::from_millis(limits.timeout_ms),
            n_retries: limits.n_retries,
        })
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == Some(&Scheme::HTTPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Webhook, BadValue> {
        let limits = WebhookLimits {
            timeout_ms: 100,
            n_retries: 0,
        };
        Webhook::parse("alerts.webhook", text, limits)
    }

    #[test]
    fn addresses_of_http_are_taken_and_no_secret_is_shown() {
        let hook = parse("https://hooks.example.com/services/T0/hunter2?x=1").unwrap();
        assert!(hook.is_encrypted());
        let shown = format!("{hook:?}");
        assert!(
            shown.contains("hooks.example.com") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!parse("http://[::1]:9093/api").unwrap().is_encrypted());
        for bad in [
            "hooks.example.com/hunter2",
            "/hunter2",
            "ftp://a/hunter2",
            "http:///hunter2",
            "http://user:hunter2@a/",
            "http://a:65536/hunter2",
            "http://a b/hunter2",
            &format!("http://a/{}", "x".repeat(MAX_BYTES)),
        ] {
            let message = parse(bad).unwrap_err().message;
            assert!(
                message.starts_with("expected an address such as "),
                "{message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
