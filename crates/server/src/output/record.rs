//! Lines that the log writes about itself and about panics, without `tracing`: they look like its own.

use serde_json::json;
use tracing::Level;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use crate::config::LogFormat;

/// One record, as `logging.format` wants it. `rest` stands below it, or in a field of its own.
pub(super) fn record(
    format: LogFormat,
    (level, target): (Level, &str),
    message: &str,
    rest: Option<(&str, &str)>,
) -> String {
    let mut time = String::new();
    // Into a string nothing fails; without the time the rest is still worth its line.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    match format {
        LogFormat::Text => {
            let below = rest.map_or_else(String::new, |(_, text)| format!("\n{}", text.trim_end()));
            format!("{time} {level:>5} {target}: {message}{below}\n")
        }
        LogFormat::Json => {
            let mut fields = json!({"message": message});
            if let Some((name, text)) = rest {
                fields[name] = text.into();
            }
            let record = json!({
                "timestamp": time,
                "level": level.as_str(),
                "fields": fields,
                "target": target,
            });
            format!("{record}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_like_those_of_tracing() {
        let of = (Level::WARN, "here");
        let text = record(LogFormat::Text, of, "it \"is\"", Some(("trace", "1\n2\n")));
        assert!(text.ends_with("Z  WARN here: it \"is\"\n1\n2\n"), "{text}");
        let json = record(LogFormat::Json, of, "it \"is\"", Some(("trace", "1\n2\n")));
        assert_eq!(json.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["fields"]["message"], "it \"is\"");
        assert_eq!(json["fields"]["trace"], "1\n2\n");
        assert_eq!(
            (&json["level"], &json["target"]),
            (&"WARN".into(), &"here".into())
        );
    }
}
