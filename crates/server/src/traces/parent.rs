//! `traceparent` and `tracestate` of W3C Trace Context: the trace that a client's call belongs to.

use http::{HeaderMap, HeaderValue};

/// Longer ones are left out, as the standard allows.
const MAX_STATE_BYTES: usize = 512;

/// What a client says of its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    /// The client's span.
    pub(super) span_id: [u8; 8],
    pub(super) is_sampled: bool,
    /// Of other vendors, for the collector.
    pub(super) state: String,
}

impl Parent {
    /// `None` where there is none, or one that is not as the standard says: a trace of its own begins then.
    pub(super) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let mut found = headers.get_all("traceparent").iter();
        let text = found.next()?.to_str().ok()?;
        if found.next().is_some() {
            return None;
        }
        let mut parent = Self::parse(text)?;
        let states = headers.get_all("tracestate").iter();
        let states: Vec<&str> = states.filter_map(text_of).collect();
        let state = states.join(",");
        if state.len() <= MAX_STATE_BYTES {
            parent.state = state;
        }
        Some(parent)
    }

    /// `version-trace-parent-flags`, in lower case hexadecimal.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version] = hex::<1>(parts.next()?)?;
        let trace_id = hex::<16>(parts.next()?)?;
        let span_id = hex::<8>(parts.next()?)?;
        let [flags] = hex::<1>(parts.next()?)?;
        // Versions to come may have more parts.
        let is_whole = version > 0 || parts.next().is_none();
        let is_good = version != 0xff && is_whole && trace_id != [0; 16] && span_id != [0; 8];
        is_good.then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
            state: String::new(),
        })
    }
}

fn text_of(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(values: &[&str]) -> Option<Parent> {
        let name = http::HeaderName::from_static("traceparent");
        let headers = values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
        Parent::in_headers(&headers.collect())
    }

    #[test]
    fn what_the_standard_allows_is_read_and_nothing_else() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let found = parent(&[good]).unwrap();
        assert_eq!(found.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(found.span_id[6..], [0x02, 0xb7]);
        assert!(found.is_sampled);
        let quiet = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert!(!parent(&[quiet]).unwrap().is_sampled);
        let newer = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(parent(&[newer]).is_some());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(parent(&[bad]), None, "{bad}");
        }
        assert_eq!(parent(&[good, good]), None);
        assert_eq!(parent(&[]), None);
    }

    #[test]
    fn the_state_of_others_is_passed_on_while_it_is_short() {
        let mut headers = HeaderMap::new();
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", HeaderValue::from_static(good));
        headers.append("tracestate", HeaderValue::from_static("a=1"));
        headers.append("tracestate", HeaderValue::from_static("b=2"));
        assert_eq!(Parent::in_headers(&headers).unwrap().state, "a=1,b=2");
        let long = HeaderValue::from_str(&"x".repeat(MAX_STATE_BYTES)).unwrap();
        headers.append("tracestate", long);
        assert_eq!(Parent::in_headers(&headers).unwrap().state, "");
    }
}
