//! Which keys may change while the server runs.

use std::collections::BTreeMap;

use super::*;

/// Every key with a value that is not its default.
const OTHERS: &[(&str, &str)] = &[
    ("models_root", "elsewhere"),
    ("scan_models_root", "true"),
    ("cache_dir", "/"),
    ("strict", "true"),
    ("follow_links", "true"),
    ("server.port", "1"),
    ("server.tls.cert", "b"),
    ("server.tls.key", "b"),
    ("server.tls.client_ca", "b"),
    ("server.tls.min_version", "1.3"),
    ("operations.tls.cert", "b"),
    ("operations.tls.key", "b"),
    ("operations.tls.client_ca", "b"),
    ("operations.tls.min_version", "1.3"),
    ("server.max_message_size_mb", "51"),
    ("server.max_unsent_mb", "1025"),
    ("server.max_upload_mb", "513"),
    ("server.peer_share_percent", "81"),
    ("server.tenant_share_percent", "81"),
    ("server.open_inference", "false"),
    ("server.max_connection_age_s", "1"),
    ("server.max_connection_grace_s", "1"),
    ("server.worker_count", "5"),
    ("server.queue_size", "101"),
    ("server.max_batch_frames", "65"),
    ("server.request_timeout_ms", "1"),
    ("server.pre_drain_ms", "1"),
    ("server.shutdown_grace_s", "1"),
    ("server.load_reports", "true"),
    ("operations.enabled", "false"),
    ("operations.port", "2"),
    ("operations.allowed_origins", "http://a"),
    ("operations.text_to_speech_url", "http://a"),
    ("operations.text_to_speech_body", "[$text]"),
    ("operations.text_to_speech_timeout_s", "31"),
    ("operations.text_to_speech_max_characters", "1001"),
    ("operations.text_to_speech_max_audio_mb", "17"),
    ("legacy.multi_tenant", "true"),
    ("legacy.monolithic", "true"),
    ("legacy.compositing", "true"),
    ("legacy.check_visual_frames", "true"),
    ("capacity.max_models", "101"),
    ("capacity.max_memory_gb", "9"),
    ("capacity.max_host_memory_gb", "9"),
    ("capacity.eviction_policy", "lfu"),
    ("capacity.idle_timeout_minutes", "1"),
    ("capacity.background_cache_frames", "51"),
    ("capacity.frames_idle_s", "61"),
    ("capacity.decoded_frames", "9"),
    ("capacity.bake", "off"),
    ("capacity.preload_frames", "9"),
    ("capacity.max_frames", "9"),
    ("capacity.max_pack_gb", "9"),
    ("engine.device", "cpu"),
    ("engine.cpu_isa", "portable"),
    ("engine.visual_cache_mb", "0"),
    ("engine.precision", "f32"),
    ("engine.encoder_device", "gpu"),
    ("engine.max_batch", "63"),
    ("engine.max_batch_wait_ms", "3"),
    ("engine.max_gmac", "21"),
    ("engine.max_arena_mb", "257"),
    ("engine.gpu_spin_us", "0"),
    ("engine.gpu_hang_s", "30"),
    ("scheduling.fast_below_ms", "101"),
    ("scheduling.slow_above_ms", "501"),
    ("scheduling.fast_max_batch", "63"),
    ("scheduling.medium_max_batch", "31"),
    ("scheduling.slow_max_batch", "15"),
    ("scheduling.medium_workers_percent", "51"),
    ("scheduling.slow_workers_percent", "26"),
    ("scheduling.small_below_gmac", "0.6"),
    ("scheduling.mid_below_gmac", "2.1"),
    ("scheduling.large_below_gmac", "8.1"),
    ("scheduling.small_at_once", "6"),
    ("scheduling.mid_at_once", "5"),
    ("scheduling.large_at_once", "4"),
    ("scheduling.huge_at_once", "2"),
    ("recovery.max_tries", "3"),
    ("recovery.backoff_ms", "51"),
    ("recovery.refuse_after", "6"),
    ("recovery.first_pause_s", "2"),
    ("recovery.longest_pause_s", "61"),
    ("output.format", "png"),
    ("output.jpeg_quality", "86"),
    ("output.mark_generated", "false"),
    ("session.max_sessions", "101"),
    ("session.max_buffered_audio_s", "61"),
    ("session.max_unsent_ms", "2001"),
    ("session.max_message_size_mb", "5"),
    ("session.idle_timeout_s", "301"),
    ("session.send_timeout_s", "61"),
    ("session.lag_timeout_s", "11"),
    ("session.max_session_s", "1"),
    ("session.resume_window_s", "1"),
    ("session.resume_key_file", "resume.key"),
    ("logging.level", "warn"),
    ("logging.format", "json"),
    ("reload.watch", "false"),
    ("reload.rollback_window_s", "1"),
    ("reload.rollback_error_percent", "1"),
    ("reload.rollback_latency_factor", "2"),
    ("logging.calls", "errors"),
    ("alerts.for_s", "31"),
    ("alerts.clear_percent", "79"),
    ("alerts.queue_wait_warning_ms", "501"),
    ("alerts.queue_wait_critical_ms", "2001"),
    ("alerts.errors_warning_percent", "2"),
    ("alerts.errors_critical_percent", "6"),
    ("alerts.late_frames_warning_percent", "3"),
    ("alerts.late_frames_critical_percent", "11"),
    ("alerts.memory_warning_percent", "86"),
    ("alerts.memory_critical_percent", "96"),
    ("alerts.gpu_memory_warning_percent", "86"),
    ("alerts.gpu_memory_critical_percent", "96"),
    ("alerts.gpu_temperature_warning_c", "86"),
    ("alerts.gpu_temperature_critical_c", "93"),
    ("adapt.watch", "false"),
    ("adapt.latency_percent", "21"),
    ("adapt.throughput_percent", "16"),
    ("adapt.errors_percent", "2"),
    ("adapt.memory_percent", "96"),
    ("adapt.act_after_s", "31"),
    ("adapt.undo_after_s", "61"),
    ("adapt.predict", "false"),
    ("alerts.gpu_utilization_warning_percent", "97"),
    ("alerts.gpu_utilization_critical_percent", "99"),
    ("alerts.worker_restarts_warning", "2"),
    ("alerts.worker_restarts_critical", "6"),
    ("alerts.workers_lost_warning", "1"),
    ("alerts.workers_lost_critical", "2"),
    ("alerts.breakers_open_warning", "2"),
    ("alerts.breakers_open_critical", "4"),
    ("alerts.certificate_warning_days", "15"),
    ("alerts.certificate_critical_days", "4"),
    ("alerts.reload_warning", "false"),
    ("alerts.webhook", "http://a"),
    ("alerts.webhook_timeout_ms", "100"),
    ("alerts.webhook_retries", "1"),
    ("traces.endpoint", "http://a"),
    ("traces.sample_ratio", "0.5"),
    ("traces.headers", "a=b"),
    ("traces.service_name", "b"),
    ("traces.timeout_ms", "100"),
    ("models.<id>.path", "b"),
    ("models.<id>.audio_encoder_path", "e"),
    ("models.<id>.audio_kind", "ave"),
    ("models.<id>.fps", "30"),
    ("models.<id>.precision", "f32"),
    ("models.<id>.preload", "true"),
    ("models.<id>.follow_links", "true"),
    ("models.<id>.num_frames", "7"),
    ("models.<id>.model_path", "b"),
    ("models.<id>.background_dir", "b"),
    ("models.<id>.crop_rects_path", "b"),
    ("tenants.<id>.keys.<id>.sha256", DIGEST),
    ("tenants.<id>.keys.<id>.expires", "2099-01-01"),
    ("tenants.<id>.certificates", "node 1"),
    ("tenants.<id>.models", "folder"),
    ("tenants.<id>.weight", "2"),
    ("tenants.<id>.default_priority", "low"),
    ("tenants.<id>.max_priority", "high"),
    ("tenants.<id>.admin", "true"),
    ("tenants.<id>.frames_per_second", "100"),
    ("tenants.<id>.burst_frames", "99"),
    ("tenants.<id>.max_sessions", "1"),
    ("tenants.<id>.max_requests", "1"),
    ("tenants.<id>.max_waiting_mb", "51"),
    ("tenants.<id>.max_resident_models", "1"),
    ("tenants.<id>.defaults.<id>.format", "png"),
    ("tenants.<id>.defaults.<id>.jpeg_quality", "86"),
    ("tenants.<id>.defaults.<id>.priority", "low"),
];

/// The SHA-256 of some key.
const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A configuration with one model of each kind, and one key of it set otherwise.
fn settings(key: Option<(&str, &str)>) -> Settings {
    let digest = DIGEST.replace('b', "c");
    let text = format!(
        "server: {{max_connection_age_s: 9, tls: {{cert: /a, key: /a}}}}\n\
         traces: {{endpoint: 'http://t'}}\nalerts: {{webhook: 'http://t'}}\noperations: {{tls: {{cert: /a, key: /a}}}}\n\
         models:\n  folder: {{path: a}}\n  \
         parts: {{model_path: a, background_dir: a, crop_rects_path: a, num_frames: 5}}\n\
         tenants:\n  folder: {{frames_per_second: 99, burst_frames: 98, \
         keys: {{folder: {{sha256: {digest}}}}}}}\n"
    );
    // Of each key, the model that can have it.
    let of_parts = [
        "num_frames",
        "model_path",
        "background_dir",
        "crop_rects_path",
    ];
    let variable = key.map(|(path, value)| {
        let is_of_parts = of_parts
            .iter()
            .any(|key| path.ends_with(&format!(">.{key}")));
        let id = if is_of_parts { "parts" } else { "folder" };
        let path = path.replace("<id>", id).replace('.', "__");
        (format!("LIPSYNC_{}", path.to_uppercase()), value.to_owned())
    });
    // `strict` refuses what is not there.
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("a")).unwrap();
    std::fs::write(base.path().join("resume.key"), "k".repeat(40)).unwrap();
    let file = base.path().join("config.yaml");
    let mut settings = Config::parse(&text, &file, variable).unwrap().settings();
    // Paths count from the folder, which is another one each time.
    let operations = &mut settings.cold.operations;
    let of_operations = operations
        .as_mut()
        .and_then(|operations| operations.tls.as_mut());
    for tls in settings.cold.tls.iter_mut().chain(of_operations) {
        let paths = [&mut tls.cert, &mut tls.key]
            .into_iter()
            .chain(&mut tls.client_ca);
        for path in paths {
            *path = path.file_name().unwrap_or_default().into();
        }
    }
    if let Some(scan) = &mut settings.hot.scan {
        scan.root = "/".into();
    }
    for model in &mut settings.hot.registry.models {
        let plain = format!("{:?}", model.source).replace(&base.path().display().to_string(), "");
        model.source = lipsync_registry::ModelSource::Folder(plain.into());
        model.audio_encoder = model.audio_encoder.take().map(|_| "e".into());
    }
    settings
}

#[test]
fn a_hot_key_changes_hot_settings_and_a_cold_one_cold_settings() {
    let others: BTreeMap<_, _> = OTHERS.iter().copied().collect();
    let before = settings(None);
    for (key, heat) in keys() {
        let value = others
            .get(key)
            .unwrap_or_else(|| panic!("{key} has no other value here"));
        let after = settings(Some((key, value)));
        let changed = (after.cold != before.cold, after.hot != before.hot);
        assert_eq!(changed, (heat == Heat::Cold, heat == Heat::Hot), "{key}");
    }
    assert_eq!(others.len(), keys().count());
}
