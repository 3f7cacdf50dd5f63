//! `traces`: where spans of calls and sessions are sent.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{
    BadValue,
    address::is_web_address,
    section::{between, section},
    text::Text,
};

section! {
    /// `traces`, as it is written.
    RawTraces in "traces";
    cold endpoint: Text = "";
    cold sample_ratio: f64 = 1.0;
    cold headers: Text = "";
    cold service_name: Text = "lipsync-server";
    cold timeout_ms: u32 = 10_000, 100..=60_000;
}

/// `traces`.
#[derive(Clone, PartialEq)]
pub struct Traces {
    /// A collector that speaks OTLP over gRPC.
    pub endpoint: Uri,
    /// The part of the calls that are traced whose clients do not say, 0 to 1.
    pub sample_ratio: f64,
    /// Sent along with every batch of spans; there may be a key among them.
    pub headers: HeaderMap,
    /// What the server is called there.
    pub service_name: String,
    /// What one batch may take.
    pub timeout: Duration,
}

/// Without the headers: there may be secrets in them.
impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traces")
            .field("endpoint", &self.endpoint)
            .field("sample_ratio", &self.sample_ratio)
            .finish_non_exhaustive()
    }
}

impl RawTraces {
    /// `None`: nothing is traced.
    pub(super) fn check(&self) -> Result<Option<Traces>, BadValue> {
        let sample_ratio = between("traces.sample_ratio", self.sample_ratio(), 0.0..=1.0)?;
        let headers = headers(self.headers())?;
        let timeout = Duration::from_millis(self.timeout_ms()?);
        if self.endpoint().is_empty() {
            return Ok(None);
        }
        Ok(Some(Traces {
            endpoint: endpoint(self.endpoint())?,
            sample_ratio,
            headers,
            service_name: self.service_name().to_owned(),
            timeout,
        }))
    }
}

fn endpoint(text: &str) -> Result<Uri, BadValue> {
    let is_good = |url: &Uri| is_web_address(url) && matches!(url.path(), "" | "/");
    let url = text.parse::<Uri>().ok().filter(is_good);
    url.ok_or_else(|| BadValue {
        key: "traces.endpoint".into(),
        message: format!(
            "expected the address of a collector of OTLP over gRPC such as http://localhost:4317, without a path, found {:?}",
            lipsync_core::Foreign(text)
        ),
    })
}

/// As in OTEL_EXPORTER_OTLP_HEADERS. What is wrong is not repeated: it may be secret.
fn headers(text: &str) -> Result<HeaderMap, BadValue> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let found = pairs.enumerate().map(|(n, pair)| {
        header(pair).ok_or_else(|| BadValue {
            key: "traces.headers".into(),
            message: format!(
                "expected pairs such as authorization=Bearer abc, with commas between them, found something else at place {}",
                n + 1
            ),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Config;

    fn error(yaml: &str) -> String {
        let refused = Config::parse(yaml, Path::new("c"), []).unwrap_err();
        refused.to_string()
    }

    #[test]
    fn headers_are_those_of_the_environment_variable_of_opentelemetry() {
        let yaml = "traces: {endpoint: 'http://localhost:4317', headers: 'authorization=Bearer a=b, x-tenant = 7'}";
        let config = Config::parse(yaml, Path::new("c"), []).unwrap();
        let traces = config.traces.unwrap();
        assert_eq!(traces.headers["authorization"], "Bearer a=b");
        assert_eq!(traces.headers["x-tenant"], "7");
        assert!(!format!("{traces:?}").contains("Bearer"));
        assert_eq!(Config::parse("", Path::new("c"), []).unwrap().traces, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for endpoint in [
            "localhost:4317",
            "grpc://a:4317",
            "http://a:4317/v1/traces",
            "http://a:70000",
            "http://b:c@a:4317",
        ] {
            let text = error(&format!("traces: {{endpoint: '{endpoint}'}}"));
            assert!(
                text.contains("traces.endpoint: expected the address of a collector"),
                "{text}"
            );
        }
        let text = error("traces: {headers: 'a=b,hunter2'}");
        assert!(
            text.contains("traces.headers: expected pairs ") && text.ends_with("at place 2"),
            "{text}"
        );
        let text = error("traces: {sample_ratio: 1.5}");
        assert!(
            text.contains("traces.sample_ratio: expected a number from 0 to 1, found 1.5"),
            "{text}"
        );
    }
}
