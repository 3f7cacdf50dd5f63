//! Which format a scraper asks for.

use super::Format;

impl Format {
    /// The format that an `Accept` header prefers; Prometheus text where it has no preference.
    #[must_use]
    pub fn negotiated(accept: &str) -> Self {
        let weight = |media: &str| {
            let ranges = accept
                .split(',')
                .filter_map(|range| weight_of(range, media));
            ranges.max()
        };
        let open = weight("application/openmetrics-text");
        match (open, weight("text/plain")) {
            (Some(open), plain) if open > 0 && plain.is_none_or(|plain| open >= plain) => {
                Self::OpenMetrics
            }
            _ => Self::Prometheus,
        }
    }

    /// The media type of the text.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The weight in thousandths that a range of an `Accept` header gives to a media type; `None` where it is about another
/// one. Wildcards name no format, so they leave the choice to us.
fn weight_of(range: &str, media: &str) -> Option<u16> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(media) {
        return None;
    }
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("q")
            .then(|| thousandths(value.trim()))
    });
    Some(weight.unwrap_or(1000))
}

/// `0.75` is 750. What is no weight counts as none.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u16>(), digits.parse::<u16>()) {
        (Ok(whole @ (0 | 1)), Ok(part)) => (whole * 1000 + part).min(1000),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_prefer() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text ; Q=0.2", Format::OpenMetrics),
            (
                "text/plain, application/openmetrics-text;q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            ("text/html,*/*", Format::Prometheus),
            ("", Format::Prometheus),
            (";;,,=;q", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiated(accept), format, "{accept}");
        }
    }
}
