//! Request headers, parsed and checked, and response headers.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use lipsync_core::{Foreign, ModelId, Priority};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::error::ServeError;

/// What a request's headers say.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    /// `x-model-id`.
    pub model_id: Option<String>,
    /// `x-request-priority`.
    pub priority: Option<Priority>,
    /// `x-max-wait-time`: longest time in the queue.
    pub max_wait: Option<Duration>,
    /// From `grpc-timeout`.
    pub deadline: Option<Instant>,
}

/// Refuses a call whose messages are compressed: frames and speech hardly shrink, and a small message could become a
/// huge one.
///
/// # Errors
/// [`ServeError::Compressed`].
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), ServeError> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(encoding) => Err(ServeError::Compressed {
            encoding: String::from_utf8_lossy(encoding).into_owned(),
        }),
    }
}

/// A client's own timer ends a call with whatever code it likes. Our answer is to come first.
pub(crate) const DEADLINE_MARGIN: Duration = Duration::from_millis(4);

impl RequestHeaders {
    /// Reads the headers of a request that arrived at `arrived`.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the header.
    pub fn parse(metadata: &MetadataMap, arrived: Instant) -> Result<Self, ServeError> {
        if let Some(preference) = text(metadata, "x-batch-preference")?
            && !matches!(preference, "enable" | "disable" | "auto")
        {
            return Err(expected(
                "x-batch-preference",
                "enable, disable or auto",
                preference,
            ));
        }
        if let Some(value) = text(metadata, "authorization")?
            && !value.starts_with("Bearer ")
        {
            return Err(ServeError::invalid(
                "authorization",
                "expected 'Bearer <key>'",
            ));
        }
        let priority = match text(metadata, "x-request-priority")? {
            None => None,
            Some(value) => Some(Priority::parse(value).ok_or_else(|| {
                expected("x-request-priority", "high, normal, medium or low", value)
            })?),
        };
        let max_wait = match text(metadata, "x-max-wait-time")? {
            None => None,
            Some(value) => Some(parse_duration(value).ok_or_else(|| {
                expected(
                    "x-max-wait-time",
                    "a duration such as 50ms, 2s or 100us",
                    value,
                )
            })?),
        };
        let deadline = match text(metadata, "grpc-timeout")? {
            None => None,
            Some(value) => {
                let timeout = parse_grpc_timeout(value)
                    .ok_or_else(|| expected("grpc-timeout", "digits and a unit", value))?;
                arrived.checked_add(timeout.saturating_sub(DEADLINE_MARGIN))
            }
        };
        let model_id = text(metadata, "x-model-id")?.map(str::to_owned);
        Ok(Self {
            model_id,
            priority,
            max_wait,
            deadline,
        })
    }

    /// Checks the routing hint against the request.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] where they differ: the request would have gone to the wrong place.
    pub fn check_model_id(&self, model_id: &ModelId) -> Result<(), ServeError> {
        match &self.model_id {
            Some(hint) if hint != model_id.as_str() => Err(ServeError::invalid(
                "x-model-id",
                format!(
                    "must equal the request's model_id {:?}, found {:?}",
                    Foreign(model_id.as_str()),
                    Foreign(hint)
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn text<'a>(metadata: &'a MetadataMap, name: &'static str) -> Result<Option<&'a str>, ServeError> {
    metadata
        .get(name)
        .map(|value| {
            value
                .to_str()
                .map_err(|_| ServeError::invalid(name, "expected visible ASCII"))
        })
        .transpose()
}

fn expected(field: &'static str, what: &str, found: &str) -> ServeError {
    ServeError::invalid(
        field,
        format!("expected {what}, found {:?}", Foreign(found)),
    )
}

/// `50ms`, `2s`, `100us`, `1m`.
fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let value: u32 = text[..split].parse().ok()?;
    match &text[split..] {
        "us" => Some(Duration::from_micros(value.into())),
        "ms" => Some(Duration::from_millis(value.into())),
        "s" => Some(Duration::from_secs(value.into())),
        "m" => Some(Duration::from_secs(u64::from(value) * 60)),
        _ => None,
    }
}

/// At most eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`, as the gRPC protocol says.
pub(crate) fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let split = text.len().checked_sub(1)?;
    let (digits, unit) = (text.get(..split)?, text.get(split..)?);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Figures that a unary answer carries in its headers.
#[derive(Debug, Clone)]
pub struct ResponseHeaders {
    /// `x-batch-size`: the largest executed batch.
    pub batch_frames: u32,
    /// `x-processing-time`, written in ms.
    pub processing: Duration,
    /// `x-queue-time`, written in ms.
    pub queue: Duration,
    /// `x-worker`: comma-separated.
    pub workers: Vec<u32>,
}

impl ResponseHeaders {
    /// Writes them.
    pub fn write(&self, metadata: &mut MetadataMap) {
        let ms = |d: Duration| format!("{:.3}", d.as_secs_f64() * 1e3);
        let workers: Vec<String> = self.workers.iter().map(u32::to_string).collect();
        let entries = [
            ("x-batch-size", self.batch_frames.to_string()),
            ("x-processing-time", ms(self.processing)),
            ("x-queue-time", ms(self.queue)),
            ("x-worker", workers.join(",")),
        ];
        for (name, value) in entries {
            if let Ok(value) = MetadataValue::try_from(value) {
                metadata.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> Result<RequestHeaders, ServeError> {
        let mut map = MetadataMap::new();
        for (name, value) in pairs {
            map.insert(*name, value.parse().unwrap());
        }
        RequestHeaders::parse(&map, Instant::now())
    }

    #[test]
    fn reads_what_the_contract_lists() {
        let h = headers(&[
            ("x-request-priority", "medium"),
            ("x-max-wait-time", "50ms"),
            ("x-batch-preference", "auto"),
            ("authorization", "Bearer k"),
            ("x-model-id", "mira"),
        ])
        .unwrap();
        assert_eq!(h.priority, Some(Priority::Normal));
        assert_eq!(h.max_wait, Some(Duration::from_millis(50)));
        assert!(h.check_model_id(&ModelId::new("mira").unwrap()).is_ok());
        assert!(matches!(
            h.check_model_id(&ModelId::new("tomo").unwrap()),
            Err(ServeError::Invalid { .. })
        ));
    }

    #[test]
    fn refuses_what_it_cannot_read_and_names_the_header() {
        for (name, value) in [
            ("x-request-priority", "urgent"),
            ("x-max-wait-time", "soon"),
            ("x-max-wait-time", "99999999999ms"),
            ("x-batch-preference", "yes"),
            ("authorization", "Basic x"),
            ("grpc-timeout", "123456789m"),
        ] {
            match headers(&[(name, value)]) {
                Err(ServeError::Invalid { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {value}: {other:?}"),
            }
        }
    }

    #[test]
    fn grpc_timeouts_have_six_units() {
        assert_eq!(parse_grpc_timeout("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse_grpc_timeout("200m"), Some(Duration::from_millis(200)));
        assert_eq!(parse_grpc_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_grpc_timeout("m"), None);
        assert_eq!(parse_grpc_timeout(""), None);
        assert_eq!(parse_grpc_timeout("5ä"), None);
    }
}
