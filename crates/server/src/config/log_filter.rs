//! What is logged, as `tracing-subscriber` reads it, but without its leniency: it takes a level that does not exist
//! for the name of a module, and logs nothing else then.

use lipsync_core::Foreign;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{BadValue, spelling::nearest};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// What other programs call them.
const OTHER_NAMES: [(&str, &str); 9] = [
    ("warning", "warn"),
    ("err", "error"),
    ("fatal", "error"),
    ("critical", "error"),
    ("notice", "info"),
    ("verbose", "debug"),
    ("all", "trace"),
    ("none", "off"),
    ("false", "off"),
];

/// The filter without its spaces.
pub(super) fn parse_filter(key: &str, text: &str) -> Result<String, BadValue> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    let refusal = directives.iter().find_map(|directive| refusal(directive));
    let filter = directives.join(",");
    let refusal = refusal.or_else(|| {
        let broken = EnvFilter::try_new(&filter).err()?;
        Some(Foreign(&broken.to_string()).to_string())
    });
    match refusal {
        None => Ok(filter),
        Some(reason) => Err(BadValue {
            key: key.into(),
            message: format!(
                "expected error, warn, info, debug, trace or off, or a filter such as \
                 \"info,lipsync_registry=debug\", found {:?}: {reason}",
                Foreign(text)
            ),
        }),
    }
}

/// Why a part of a filter is refused, if it is.
fn refusal(directive: &str) -> Option<String> {
    let (target, level) = match directive.rsplit_once('=') {
        // Inside of a span's brackets the sign means something else, and a span alone needs no level.
        _ if directive.ends_with(']') => return None,
        Some((target, level)) => (Some(target), level.trim()),
        None => (None, directive),
    };
    if level.is_empty() {
        return Some("a level is missing".into());
    }
    if level.parse::<LevelFilter>().is_ok() {
        return target
            .filter(|target| !target.contains('[') && !is_name(target))
            .map(|target| format!("{:?} is no module's name", Foreign(target)));
    }
    let lower = level.to_lowercase();
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == lower);
    let meant = other
        .map(|(_, meant)| *meant)
        .or_else(|| nearest(&lower, LEVELS));
    Some(match meant {
        Some(meant) => format!("write {meant} instead of {}", Foreign(level)),
        None if target.is_none() && level.contains('_') => {
            format!("what is no level needs one, as in {}=debug", Foreign(level))
        }
        None => format!("there is no level {}", Foreign(level)),
    })
}

/// Whether a module may be called so: `lipsync_serving::live`.
fn is_name(target: &str) -> bool {
    let is_good = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    !target.is_empty() && target.chars().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_taken() {
        for (text, filter) in [
            ("info", "info"),
            ("WARN", "WARN"),
            ("off", "off"),
            ("info,lipsync_registry=debug", "info,lipsync_registry=debug"),
            (
                " info , lipsync_registry=debug ",
                "info,lipsync_registry=debug",
            ),
            ("lipsync_serving::live=trace", "lipsync_serving::live=trace"),
            (
                "info,[request{id=\"7\"}]=debug",
                "info,[request{id=\"7\"}]=debug",
            ),
            (
                "warn,lipsync_server[request]",
                "warn,lipsync_server[request]",
            ),
        ] {
            let parsed = parse_filter("logging.level", text).map_err(|bad| bad.message);
            assert_eq!(parsed.as_deref(), Ok(filter));
        }
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused_with_those_that_do() {
        for (text, words) in [
            ("verbose", "write debug instead of verbose"),
            ("inof", "write info instead of inof"),
            ("WARNING", "write warn instead of WARNING"),
            ("false", "write off"),
            ("loud", "there is no level loud"),
            ("", "a level is missing"),
            ("info,", "a level is missing"),
            ("info,,debug", "a level is missing"),
            ("lipsync_registry", "lipsync_registry=debug"),
            ("info,lipsync_registry=inof", "write info"),
            ("info,lipsync_registry=", "a level is missing"),
            ("info;lipsync_registry=debug", "no module's name"),
            ("=debug", "no module's name"),
            ("info lipsync_registry=debug", "no module's name"),
            ("info,[request{id=]=debug", "found"),
        ] {
            let message = parse_filter("logging.level", text).expect_err(text).message;
            assert!(message.contains(words), "{text:?}: {message}");
            assert!(message.contains("error, warn, info, debug, trace or off"));
        }
        let long = parse_filter("logging.level", &"x".repeat(1 << 20)).unwrap_err();
        assert!(long.message.len() < 1500, "{}", long.message.len());
    }
}
