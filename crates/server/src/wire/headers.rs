//! What the headers of a call say, and the figures in the headers of its answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use lipsync_core::{Foreign, ModelId, Priority};
use lipsync_serving::{ServeError, batch::Timings, caller::Caller, peer::Peer};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::{
    config::Output,
    tenants::{ModelDefaults, Shown, Tenant},
};

/// What the headers of a call say, read once, when it arrives.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestHeaders {
    /// As far as the headers can be read.
    pub(crate) caller: Caller,
    /// Whose call it is, where it is known whose.
    tenant: Option<Arc<Tenant>>,
    /// `x-load-report: orca`: the answer is to tell how the server is.
    pub(crate) wants_load_report: bool,
    /// `x-request-priority` is there.
    names_level: bool,
    /// `x-model-id`.
    model_id: Option<String>,
    fault: Option<HeaderFault>,
}

/// A header that cannot be read.
#[derive(Debug, Clone)]
struct HeaderFault {
    name: &'static str,
    message: String,
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
const DEADLINE_MARGIN: Duration = Duration::from_millis(4);

impl RequestHeaders {
    /// Reads the headers of a call that arrived at `arrived`. Calls of which frames are wanted must be asked
    /// whether they could be read ([`Self::checked`]); others need none of them.
    pub(crate) fn read(
        headers: &HeaderMap,
        tenant: &Arc<Tenant>,
        peer: Peer,
        arrived: Instant,
    ) -> Self {
        let deadline = deadline(headers, arrived);
        let caller = Caller {
            // A call has its deadline whatever else is wrong with it.
            deadline: deadline.clone().unwrap_or_default(),
            ..tenant.caller(peer)
        };
        let read = Self {
            caller,
            tenant: Some(Arc::clone(tenant)),
            wants_load_report: wants_load_report(headers),
            names_level: false,
            model_id: None,
            fault: deadline.err(),
        };
        if read.fault.is_some() {
            return read;
        }
        read.clone().parse(headers).unwrap_or_else(|fault| Self {
            fault: Some(fault),
            ..read
        })
    }

    fn parse(mut self, headers: &HeaderMap) -> Result<Self, HeaderFault> {
        // Where batches are shared they are, unless somebody wants none of it.
        self.caller.runs_alone = match text(headers, "x-batch-preference")? {
            None | Some("enable" | "auto") => false,
            Some("disable") => true,
            Some(other) => {
                let known = "enable, disable or auto";
                return Err(expected("x-batch-preference", known, other));
            }
        };
        if matches!(Shown::in_headers(headers), Shown::Unreadable) {
            return Err(HeaderFault {
                name: "authorization",
                message: "expected 'Bearer <key>'".into(),
            });
        }
        if let Some(value) = text(headers, "x-request-priority")? {
            self.caller.priority = Priority::parse(value).ok_or_else(|| {
                expected("x-request-priority", "high, normal, medium or low", value)
            })?;
            self.names_level = true;
        }
        self.caller.max_wait = match text(headers, "x-max-wait-time")? {
            None => None,
            Some(value) => Some(parse_duration(value).ok_or_else(|| {
                expected(
                    "x-max-wait-time",
                    "a duration such as 50ms, 2s or 100us",
                    value,
                )
            })?),
        };
        self.model_id = text(headers, "x-model-id")?.map(str::to_owned);
        Ok(self)
    }

    /// How frames of a model are coded for this caller when it does not say.
    pub(crate) fn output(&self, model: &ModelId, defaults: &Output) -> Output {
        let of_tenant = self.defaults(model);
        of_tenant.map_or(*defaults, |of_tenant| defaults.with(of_tenant))
    }

    /// The level of a request for a model: the one that its message asks for, or else its headers, or else its tenant's
    /// for this model, or for all. At most the highest of its tenant.
    ///
    /// # Errors
    /// [`ServeError::PermissionDenied`] naming both levels.
    pub(crate) fn level(
        &self,
        model: &ModelId,
        asked: Option<Priority>,
    ) -> Result<Priority, ServeError> {
        let of_model = match self.names_level {
            true => None,
            false => self.defaults(model).and_then(|defaults| defaults.priority),
        };
        let level = asked.or(of_model).unwrap_or(self.caller.priority);
        self.caller.check_priority(level)
    }

    fn defaults(&self, model: &ModelId) -> Option<&ModelDefaults> {
        self.tenant.as_ref()?.defaults.get(model)
    }

    /// The same, if all of them could be read.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the header.
    pub(crate) fn checked(&self) -> Result<&Self, ServeError> {
        match &self.fault {
            None => Ok(self),
            Some(fault) => Err(ServeError::invalid(fault.name, fault.message.clone())),
        }
    }

    /// Checks the routing hint against the request.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] where they differ: the request would have gone to the wrong place.
    pub(crate) fn check_model_id(&self, model_id: &ModelId) -> Result<(), ServeError> {
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

/// Whether the answer is to say how the server is, in the words of `xds.data.orca.v3`.
fn wants_load_report(headers: &HeaderMap) -> bool {
    let value = headers.get("x-load-report").map(HeaderValue::as_bytes);
    value == Some(b"orca")
}

/// When the client gives up, less the margin.
fn deadline(headers: &HeaderMap, arrived: Instant) -> Result<Option<Instant>, HeaderFault> {
    let Some(value) = text(headers, "grpc-timeout")? else {
        return Ok(None);
    };
    let timeout = parse_grpc_timeout(value)
        .ok_or_else(|| expected("grpc-timeout", "digits and a unit", value))?;
    Ok(arrived.checked_add(timeout.saturating_sub(DEADLINE_MARGIN)))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, HeaderFault> {
    let fault = |_| HeaderFault {
        name,
        message: "expected visible ASCII".into(),
    };
    let value = headers.get(name);
    value.map(|value| value.to_str().map_err(fault)).transpose()
}

fn expected(name: &'static str, what: &str, found: &str) -> HeaderFault {
    HeaderFault {
        name,
        message: format!("expected {what}, found {:?}", Foreign(found)),
    }
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
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
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

/// How busy the server is, percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// The busiest GPU, by NVIDIA's library.
    Gpu(u32),
    /// All workers, where there is no GPU to ask.
    Workers(u32),
}

/// Writes the figures that a unary answer carries in its headers: `x-batch-size`, the largest executed batch;
/// `x-processing-time` and `x-queue-time`, ms; `x-worker`, comma-separated; and how busy the server is, percent:
/// `x-gpu-utilization`, or `x-worker-busy` where there is no GPU.
pub(crate) fn write_figures(timings: &Timings, load: &Load, metadata: &mut MetadataMap) {
    let ms = |d: Duration| format!("{:.3}", d.as_secs_f64() * 1e3);
    let workers: Vec<String> = timings.workers.iter().map(usize::to_string).collect();
    let load = match load {
        Load::Gpu(percent) => ("x-gpu-utilization", percent.to_string()),
        Load::Workers(percent) => ("x-worker-busy", percent.to_string()),
    };
    let entries = [
        load,
        ("x-batch-size", timings.batch_frames.to_string()),
        ("x-processing-time", ms(timings.total)),
        ("x-queue-time", ms(timings.queue)),
        ("x-worker", workers.join(",")),
    ];
    for (name, value) in entries {
        if let Ok(value) = MetadataValue::try_from(value) {
            metadata.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderName;

    use super::*;
    use crate::tenants::Tenants;

    fn headers(pairs: &[(&'static str, &str)]) -> RequestHeaders {
        let pairs = pairs.iter().map(|&(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_static(name), value)
        });
        let tenants = Tenants::default();
        let everybody = tenants.identify(Shown::Nothing, false, SystemTime::now());
        let everybody = everybody.unwrap();
        RequestHeaders::read(&pairs.collect(), &everybody, Peer::UNKNOWN, Instant::now())
    }

    #[test]
    fn reads_what_the_contract_lists() {
        let h = headers(&[
            ("x-request-priority", "medium"),
            ("x-max-wait-time", "50ms"),
            ("x-batch-preference", "auto"),
            ("authorization", "Bearer k"),
            ("x-model-id", "mira"),
        ]);
        let h = h.checked().unwrap();
        assert_eq!(h.caller.priority, Priority::Normal);
        assert_eq!(h.caller.max_wait, Some(Duration::from_millis(50)));
        assert_eq!(h.caller.tenant.as_str(), "default");
        assert!(!h.wants_load_report);
        assert!(headers(&[("x-load-report", "orca")]).wants_load_report);
        assert!(!headers(&[("x-load-report", "other")]).wants_load_report);
        assert!(h.check_model_id(&ModelId::new("mira").unwrap()).is_ok());
        assert!(matches!(
            h.check_model_id(&ModelId::new("tomo").unwrap()),
            Err(ServeError::Invalid { .. })
        ));
    }

    #[test]
    fn a_level_is_that_of_the_message_the_headers_the_model_or_the_tenant() {
        let everybody = Tenants::default();
        let everybody = everybody.identify(Shown::Nothing, false, SystemTime::now());
        let mut tenant = Tenant::clone(&everybody.unwrap());
        let [mira, tomo] = ["mira", "tomo"].map(|id| ModelId::new(id).unwrap());
        let of_mira = ModelDefaults {
            priority: Some(Priority::High),
            ..ModelDefaults::default()
        };
        tenant.defaults.insert(mira.clone(), of_mira);
        let tenant = Arc::new(tenant);
        let (high, normal, low) = (Priority::High, Priority::Normal, Priority::Low);
        for (header, asked, of_mira, of_tomo) in [
            (None, None, high, normal),
            (Some("low"), None, low, low),
            (Some("low"), Some(high), high, high),
            (None, Some(low), low, low),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-request-priority", HeaderValue::from_static(header));
            }
            let read = RequestHeaders::read(&headers, &tenant, Peer::UNKNOWN, Instant::now());
            let levels = [&mira, &tomo].map(|model| read.level(model, asked).unwrap());
            assert_eq!(levels, [of_mira, of_tomo], "{header:?} {asked:?}");
        }
    }

    #[test]
    fn who_wants_no_batch_with_others_says_so() {
        for (preference, runs_alone) in [("enable", false), ("auto", false), ("disable", true)] {
            let read = headers(&[("x-batch-preference", preference)]);
            assert_eq!(read.checked().unwrap().caller.runs_alone, runs_alone);
        }
        assert!(!headers(&[]).caller.runs_alone);
    }

    #[test]
    fn a_deadline_holds_whatever_else_cannot_be_read() {
        let arrived = Instant::now();
        let timeout = ("grpc-timeout", "2S");
        for (name, value, is_read) in [
            ("x-request-priority", "high", true),
            ("x-request-priority", "urgent", false),
            ("x-model-id", "é", false),
        ] {
            let read = headers(&[timeout, (name, value)]);
            assert_eq!(read.checked().is_ok(), is_read, "{name}: {value}");
            let left = read.caller.deadline.unwrap() - arrived;
            assert!(left >= Duration::from_secs(2) - DEADLINE_MARGIN, "{left:?}");
        }
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
            match headers(&[(name, value)]).checked() {
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
