//! Triton's settings of traces and logs: told as they are, not changed from here.

use std::collections::HashMap;

use lipsync::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
    log_settings_response::{self, setting_value::ParameterChoice},
    trace_setting_response,
};
use tonic::Status;
use tracing::{Level, level_filters::LevelFilter};

use crate::wire::status::unsupported;

/// What Triton's settings are where nothing is traced.
const NO_TRACES: [(&str, &str); 6] = [
    ("log_frequency", "0"),
    ("trace_count", "-1"),
    ("trace_file", ""),
    ("trace_level", "OFF"),
    ("trace_mode", "triton"),
    ("trace_rate", "1000"),
];

/// Traces are off.
///
/// # Errors
/// UNIMPLEMENTED where other settings are asked for.
pub(super) fn trace(request: &TraceSettingRequest) -> Result<TraceSettingResponse, Status> {
    let keeps = |(name, setting): (
        &String,
        &lipsync::inference::trace_setting_request::SettingValue,
    )| {
        // A setting without values goes back to its default.
        setting.value.is_empty()
            || NO_TRACES
                .iter()
                .any(|(known, value)| known == name && setting.value == [*value])
    };
    if !request.settings.iter().all(keeps) {
        return Err(unsupported("traces of this kind do not exist here"));
    }
    let settings = NO_TRACES.map(|(name, value)| {
        let value = vec![value.to_owned()];
        (
            name.to_owned(),
            trace_setting_response::SettingValue { value },
        )
    });
    Ok(TraceSettingResponse {
        settings: HashMap::from(settings),
    })
}

/// What is logged now.
///
/// # Errors
/// UNIMPLEMENTED where other settings are asked for.
pub(super) fn log(request: &LogSettingsRequest) -> Result<LogSettingsResponse, Status> {
    if !request.settings.is_empty() {
        let text = "the log is set by the configuration (logging.level), not by clients";
        return Err(unsupported(text));
    }
    let level = LevelFilter::current();
    let flag = |least: Level| ParameterChoice::BoolParam(level >= least);
    let verbose = u32::from(level >= Level::DEBUG) + u32::from(level >= Level::TRACE);
    let settings = [
        ("log_error", flag(Level::ERROR)),
        ("log_warning", flag(Level::WARN)),
        ("log_info", flag(Level::INFO)),
        ("log_verbose_level", ParameterChoice::Uint32Param(verbose)),
        ("log_file", ParameterChoice::StringParam(String::new())),
        ("log_format", ParameterChoice::StringParam("default".into())),
    ];
    let settings = settings.map(|(name, choice)| {
        let value = log_settings_response::SettingValue {
            parameter_choice: Some(choice),
        };
        (name.to_owned(), value)
    });
    Ok(LogSettingsResponse {
        settings: HashMap::from(settings),
    })
}
