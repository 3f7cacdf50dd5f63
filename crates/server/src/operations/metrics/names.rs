//! Every metric of `/metrics`: its name, its labels, and what it is.
//!
//! `docs/metrics.md` lists the same; a test compares them.

use lipsync_telemetry::{Kind, Metric};

/// Declares the metrics, and `ALL` of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, in the order of the page.
        #[cfg(test)]
        pub(super) const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD = Info "lipsync_build_info" ["version", "device"] "Version of the server, and what runs the networks.";
    UPTIME = Gauge "lipsync_uptime_seconds" [] "Time since the server started.";
    PHASE = Gauge "lipsync_phase" ["phase"] "1 for the phase that the server is in: starting, serving, leaving or draining.";

    RELOADS = Counter "lipsync_config_reloads_total" ["outcome"] "Configurations that were read again: applied, refused, or rolled back.";
    RELOAD_FAILURES = Counter "lipsync_config_reload_failures_total" [] "Configurations that were refused or rolled back.";

    GRPC_STARTED = Counter "grpc_server_started_total" ["grpc_service", "grpc_method"] "gRPC calls that came.";
    GRPC_HANDLED = Counter "grpc_server_handled_total" ["grpc_service", "grpc_method", "grpc_code"] "gRPC calls that ended, by status code.";
    GRPC_TIME = Histogram "grpc_server_handling_seconds" ["grpc_service", "grpc_method"] "Time from the headers of a gRPC call to its status.";

    REQUESTS = Histogram "lipsync_request_duration_seconds" ["model", "tenant", "outcome"] "Time of a unary call that makes frames, from its headers to its status.";
    SHED = Counter "lipsync_shed_total" ["reason"] "Calls and sessions that were refused for want of room, by what ran out.";
    INFLIGHT = Gauge "lipsync_tenant_inflight" ["tenant"] "Calls and sessions under way.";
    UPLOAD_BYTES = Gauge "lipsync_upload_bytes" [] "Bytes of messages on their way in, and of those being answered.";

    SESSIONS = Gauge "lipsync_sessions" [] "Sessions that are open.";
    MAX_SESSIONS = Gauge "lipsync_sessions_limit" [] "Sessions that may be open at once.";
    SESSION_LIVES = Histogram "lipsync_session_duration_seconds" ["model", "tenant", "outcome"] "Life of a session, once it has ended.";
    FIRST_FRAME = Histogram "lipsync_first_frame_seconds" ["model", "tenant"] "Time from the first audio of a segment to its first frame.";
    INTERVAL = Histogram "lipsync_frame_interval_seconds" ["model", "tenant"] "Time between frames of a session that a viewer sees one after the other.";
    FRAMES = Counter "lipsync_frames_total" ["model", "tenant", "kind"] "Frames sent: unary, and of sessions those that the network made (spoken), and backgrounds in silence (silent), between segments (idle), and for want of time (skipped).";
    LATE = Counter "lipsync_frame_deadline_miss_total" ["model", "tenant"] "Frames of paced sessions that left after their time.";
    TOO_SLOW = Counter "lipsync_sessions_too_slow_total" ["model", "tenant"] "Sessions that ended because they fell behind.";
    CLEARS = Counter "lipsync_interruptions_total" ["model", "tenant"] "Interruptions of sessions.";

    WAIT = Histogram "lipsync_queue_wait_seconds" ["priority"] "Time that a job waited for a worker.";
    QUEUE_DEPTH = Gauge "lipsync_queue_depth" [] "Jobs that wait for a worker.";
    QUEUE_LIMIT = Gauge "lipsync_queue_limit" [] "Jobs that may wait for a worker.";
    JOBS = Counter "lipsync_jobs_total" ["outcome"] "Jobs of the worker pool that ended, and those that it rejected.";
    JOBS_INFLIGHT = Gauge "lipsync_jobs_inflight" [] "Jobs that were accepted and have not ended.";
    BATCH_FRAMES = Histogram "lipsync_batch_frames" [] "Frames of a batch that a worker ran.";
    BATCH_CLOSED = Counter "lipsync_batch_closed_total" ["reason"] "Batches that jobs could share, by what closed them: full, an idle worker, or the longest wait.";
    STAGE_TIME = Histogram "lipsync_stage_duration_seconds" ["stage"] "Time that a batch of frames took in a stage.";
    STAGE_FRAMES = Counter "lipsync_stage_frames_total" ["stage"] "Frames that went through a stage.";

    WORKER_BUSY = Counter "lipsync_worker_busy_seconds_total" ["worker", "device"] "Time that a worker ran networks.";
    BUSY_RATIO = Gauge "lipsync_worker_busy_ratio" [] "Part of the last second in which workers ran networks; a batch counts when it ends.";
    WORKER_FRAMES = Counter "lipsync_worker_frames_total" ["worker", "device"] "Frames that a worker made.";
    WORKER_BATCHES = Counter "lipsync_worker_batches_total" ["worker", "device"] "Batches that a worker ran.";
    WORKER_RESTARTS = Counter "lipsync_worker_restarts_total" ["worker", "device"] "Times that a worker was rebuilt after a panic.";
    WORKERS = Gauge "lipsync_workers" ["device"] "Workers that there are.";
    WORKERS_RANGE = Gauge "lipsync_workers_range" ["bound"] "Fewest (min) and most (max) workers that there may be; equal where the number is fixed.";
    EXPECTED_BUSY = Gauge "lipsync_expected_busy_workers" [] "Workers that are expected to be busy in the busiest of the next five minutes, by what was usual at this time of the day; absent until a day is known.";
    FORECAST_ERROR = Gauge "lipsync_forecast_error_ratio" [] "Sum of the differences between busy workers that were expected for each minute and those that came, beside those that came.";
    ADAPTATIONS = Counter "lipsync_adaptations_total" ["act", "reason"] "Changes that the server made by itself, by what it changed and why.";
    DEVICE_ERRORS = Counter "lipsync_device_errors_total" ["device", "kind"] "Errors of devices: fault (the workspace was rebuilt) and out_of_memory.";

    RESIDENT = Gauge "lipsync_model_resident" ["model"] "1 where the model is in memory.";
    MODEL_STATE = Gauge "lipsync_model_state" ["model", "state"] "1 for the state that the model is in: unloaded, loading, ready or failed.";
    MODEL_MEMORY = Gauge "lipsync_model_memory_bytes" ["model", "part"] "Memory of a model: weights, coded frames (frames), decoded frames (decoded) and visual_cache.";
    MODEL_FRAMES = Counter "lipsync_model_frames_total" ["model"] "Frames that the model's network made.";
    MODEL_COMPUTE = Counter "lipsync_model_compute_seconds_total" ["model"] "Time that workers ran the model's network.";
    MODEL_LOADS = Histogram "lipsync_model_load_seconds" ["model"] "Time of a load, whether it went well or not.";
    EVICTIONS = Counter "lipsync_evictions_total" ["model", "reason"] "Times that a model was dropped from memory.";
    MEMORY = Gauge "lipsync_resident_bytes" [] "Memory of all models that counts against the limits.";

    CACHE_BYTES = Gauge "lipsync_background_cache_bytes" ["model"] "Background frames in memory.";
    CACHE_HITS = Counter "lipsync_background_cache_hits_total" ["model"] "Background frames that were in memory when they were needed, since the model was loaded.";
    CACHE_MISSES = Counter "lipsync_background_cache_misses_total" ["model"] "Background frames that were not in memory when they were needed, since the model was loaded.";
    VISUAL_BYTES = Gauge "lipsync_visual_cache_bytes" [] "Bytes in the visual cache.";
    VISUAL_LIMIT = Gauge "lipsync_visual_cache_limit_bytes" [] "Bytes that the visual cache may take.";
    VISUAL_HITS = Counter "lipsync_visual_cache_hits_total" [] "Frames whose entry was in the visual cache.";
    VISUAL_MISSES = Counter "lipsync_visual_cache_misses_total" [] "Frames whose entry was not in the visual cache.";
    VISUAL_EVICTIONS = Counter "lipsync_visual_cache_evictions_total" [] "Entries that the visual cache dropped to make room.";

    GPU_MEMORY = Gauge "lipsync_gpu_memory_used_bytes" ["device"] "Memory of the GPU in use, whoever uses it.";
    GPU_TOTAL = Gauge "lipsync_gpu_memory_total_bytes" ["device"] "Memory of the GPU.";
    GPU_BUSY = Gauge "lipsync_gpu_utilization_ratio" ["device"] "Part of the last second in which the GPU computed.";
    GPU_TEMPERATURE = Gauge "lipsync_gpu_temperature_celsius" ["device"] "Temperature of the GPU.";
    GPU_POWER = Gauge "lipsync_gpu_power_watts" ["device"] "Power that the GPU draws.";
    GPU_POWER_LIMIT = Gauge "lipsync_gpu_power_limit_watts" ["device"] "The most power that the GPU may draw.";

    RECEIVED = Counter "lipsync_network_received_bytes_total" ["port"] "Bytes that came over a port.";
    SENT = Counter "lipsync_network_sent_bytes_total" ["port"] "Bytes that were sent over a port.";
    CONNECTIONS = Gauge "lipsync_connections" ["port"] "Connections that are open.";
    ACCEPTED = Counter "lipsync_connections_accepted_total" ["port"] "Connections that were accepted.";

    SPANS = Counter "lipsync_trace_spans_total" ["outcome"] "Spans for the collector of traces: exported, dropped because too many waited, or failed; none without traces.endpoint.";
    CERTIFICATE = Gauge "lipsync_tls_certificate_expiry_timestamp_seconds" ["port"] "When the first certificate of the port's chain ends, seconds since the Unix epoch.";

    ALERT = Gauge "lipsync_alert" ["alert", "severity"] "1 where the server itself has raised an alert.";
    POSTS = Counter "lipsync_alert_posts_total" ["outcome"] "Changes of alerts for the webhook: delivered, failed after the last try, or dropped because too many waited.";
    ADVICE = Gauge "lipsync_advice" ["key"] "1 for a key of the configuration that the server advises to change.";

    CPU = Counter "process_cpu_seconds_total" [] "Processor time of the process.";
    RSS = Gauge "process_resident_memory_bytes" [] "Resident memory of the process.";
    VIRTUAL = Gauge "process_virtual_memory_bytes" [] "Address space of the process.";
    THREADS = Gauge "process_threads" [] "Threads of the process.";
    FILES = Gauge "process_open_fds" [] "Files that the process has open.";
    MAX_FILES = Gauge "process_max_fds" [] "Files that the process may open.";
    STARTED = Gauge "process_start_time_seconds" [] "When the process started, seconds since the Unix epoch.";

    TRITON_SUCCESS = BareCounter "nv_inference_request_success" ["model", "version"] "Unary calls and requests of streams that were answered with frames.";
    TRITON_FAILURE = BareCounter "nv_inference_request_failure" ["model", "reason", "version"] "Those that were not: REJECTED (no room or no time), CANCELED, BACKEND (a fault of the server) or OTHER (a wrong request).";
    TRITON_COUNT = BareCounter "nv_inference_count" ["model", "version"] "Frames of answered calls.";
    TRITON_EXECUTIONS = BareCounter "nv_inference_exec_count" ["model", "version"] "Answered calls, however many batches they took.";
    TRITON_REQUEST_TIME = BareCounter "nv_inference_request_duration_us" ["model", "version"] "Time of answered calls, microseconds.";
    TRITON_QUEUE_TIME = BareCounter "nv_inference_queue_duration_us" ["model", "version"] "Their time in the queue, microseconds.";
    TRITON_INPUT_TIME = BareCounter "nv_inference_compute_input_duration_us" ["model", "version"] "Their time from speech to windows and backgrounds, microseconds.";
    TRITON_INFER_TIME = BareCounter "nv_inference_compute_infer_duration_us" ["model", "version"] "Their time in the network, microseconds.";
    TRITON_OUTPUT_TIME = BareCounter "nv_inference_compute_output_duration_us" ["model", "version"] "Their time in pasting and coding, microseconds.";
    TRITON_GPU_BUSY = Gauge "nv_gpu_utilization" ["gpu_uuid"] "lipsync_gpu_utilization_ratio under Triton's name.";
    TRITON_GPU_TOTAL = Gauge "nv_gpu_memory_total_bytes" ["gpu_uuid"] "lipsync_gpu_memory_total_bytes under Triton's name.";
    TRITON_GPU_MEMORY = Gauge "nv_gpu_memory_used_bytes" ["gpu_uuid"] "lipsync_gpu_memory_used_bytes under Triton's name.";
    TRITON_GPU_POWER = Gauge "nv_gpu_power_usage" ["gpu_uuid"] "lipsync_gpu_power_watts under Triton's name.";
    TRITON_GPU_POWER_LIMIT = Gauge "nv_gpu_power_limit" ["gpu_uuid"] "lipsync_gpu_power_limit_watts under Triton's name.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_docs_list_every_metric() {
        let docs = include_str!("../../../../../docs/metrics.md");
        let found: Vec<&str> = docs.lines().filter(|line| line.contains("` | ")).collect();
        let expected: Vec<String> = ALL.iter().map(row).collect();
        assert_eq!(found, expected);
    }

    fn row(metric: &Metric) -> String {
        let kind = match metric.kind {
            Kind::BareCounter => "counter".into(),
            kind => format!("{kind:?}").to_lowercase(),
        };
        let mut labels = String::new();
        for label in metric.labels {
            let comma = if labels.is_empty() { "" } else { ", " };
            let _ = write!(labels, "{comma}`{label}`");
        }
        let labels = if labels.is_empty() { "-" } else { &labels };
        format!(
            "| `{}` | {kind} | {labels} | {} |",
            metric.name, metric.help
        )
    }

    #[test]
    fn names_say_what_prometheus_expects() {
        for metric in ALL {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            // Triton's names are not ours to mend.
            let is_tritons = metric.name.starts_with("nv_");
            assert!(
                is_tritons || metric.kind != Kind::BareCounter,
                "{}",
                metric.name
            );
        }
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
