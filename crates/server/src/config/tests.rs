use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lipsync_worker_pool::{Recovery, Scheduling};

use super::*;

mod clashes;
mod heat;
mod limits;
mod mistakes;
mod overrides;
mod paths;
mod shapes;
mod tenants;

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::parse(text, Path::new("/etc/lipsync/config.yaml"), variables).map_err(|e| e.to_string())
}

fn repository_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.yaml")
}

#[test]
fn a_byte_order_mark_is_left_out() {
    assert!(parse("\u{feff}# nothing\n").is_ok());
    let error = parse("\u{feff}serfer: {}\n").unwrap_err();
    assert!(error.contains(":1:1: "), "{error}");
}

#[test]
fn the_documented_file_holds_the_defaults() {
    let documented = Config::load_with(&repository_file(), []).unwrap();
    let defaults = parse("").unwrap();
    assert_eq!(
        format!("{:?}", documented.server),
        format!("{:?}", defaults.server)
    );
    assert_eq!(documented.requests, defaults.requests);
    assert_eq!(
        format!("{:?}", documented.engine),
        format!("{:?}", defaults.engine)
    );
    assert_eq!(documented.scheduling, defaults.scheduling);
    assert_eq!(defaults.scheduling, Scheduling::default());
    assert_eq!(documented.recovery, defaults.recovery);
    assert_eq!(defaults.recovery, Recovery::default());
    assert_eq!(documented.adapt, defaults.adapt);
    assert_eq!(
        format!("{:?}", documented.output),
        format!("{:?}", defaults.output)
    );
    assert_eq!(
        format!("{:?}", documented.session),
        format!("{:?}", defaults.session)
    );
    assert_eq!(
        format!("{:?}", documented.logging),
        format!("{:?}", defaults.logging)
    );
    let (documented, defaults) = (documented.registry, defaults.registry);
    assert_eq!(documented.max_models, defaults.max_models);
    assert_eq!(documented.max_bytes, defaults.max_bytes);
    assert_eq!(documented.eviction, defaults.eviction);
    assert_eq!(documented.idle_timeout, defaults.idle_timeout);
    assert_eq!(
        documented.background_cache_frames,
        defaults.background_cache_frames
    );
    assert_eq!(documented.preload_frames, defaults.preload_frames);
    assert_eq!(documented.max_frame_bytes, defaults.max_frame_bytes);
    assert_eq!(documented.frames_idle, defaults.frames_idle);
    assert_eq!(documented.decoded_frames, defaults.decoded_frames);
    assert_eq!(documented.jpeg_quality, defaults.jpeg_quality);
    assert_eq!(documented.precision, defaults.precision);
    assert_eq!(
        (documented.bake, documented.cache_dir),
        (defaults.bake, None)
    );
    assert_eq!(documented.models.len(), 2);
}

#[test]
fn the_documented_file_names_every_key() {
    let text = std::fs::read_to_string(repository_file()).unwrap();
    let mut n_keys = 0;
    for (path, _) in keys() {
        let key = path.rsplit('.').next().unwrap_or(path);
        assert!(
            text.contains(&format!("{key}:")),
            "{key} is not documented in config.yaml"
        );
        n_keys += 1;
    }
    assert!(n_keys > 25, "there are keys ({n_keys})");
}

#[test]
fn errors_name_file_line_column_and_what_was_expected() {
    for (text, place, words) in [
        ("server:\n  prot: 1\n", ":2:3", ["prot", "port"]),
        (
            "server:\n  worker_count: many\n",
            ":2:17",
            ["worker_count", "many"],
        ),
        (
            "server:\n  worker_count: 0\n",
            ":2:3",
            ["server.worker_count", "expected 1 to 256, found 0"],
        ),
        (
            "output:\n  jpeg_quality: 101\n",
            ":2:3",
            ["output.jpeg_quality", "1 to 100"],
        ),
        ("output:\n  format: webp\n", ":2:11", ["webp", "jpeg"]),
        (
            "engine:\n  device: cuda:first\n",
            ":2:3",
            ["engine.device", "cuda:0"],
        ),
        (
            "engine:\n  cpu_isa: mmx\n",
            ":2:3",
            ["engine.cpu_isa", "avx512"],
        ),
        ("engine:\n  precision: f16\n", ":2:14", ["f16", "bf16"]),
        ("server:\n  port: here\n", ":2:3", ["server.port", "here"]),
        (
            "capacity:\n  max_memory_gb: .nan\n",
            ":2:18",
            ["capacity.max_memory_gb", "a number or auto, found .nan"],
        ),
        (
            "strict: true\nmodels:\n  a:\n    path: nowhere\n",
            ":4:5",
            ["models.a.path", "does not exist"],
        ),
        (
            "models:\n  a/b:\n    path: /\n",
            ":2:3",
            ["models.a/b", "letters"],
        ),
        (
            "models:\n  a: {}\n",
            ":2:3",
            ["models.a", "expected either path"],
        ),
        ("server: [\n", ":2:1", ["config.yaml", "did not find"]),
    ] {
        let message = parse(text).expect_err(text);
        let file = format!("/etc/lipsync/config.yaml{place}");
        assert!(message.starts_with(&file), "{text:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{text:?}: {message} lacks {word:?}");
        }
    }
}

#[test]
fn duplicate_keys_and_models_are_refused() {
    for text in [
        "server:\n  port: ':1'\n  port: ':2'\n",
        "models:\n  a:\n    path: /\n  a:\n    path: /\n",
        "server: {}\nserver: {}\n",
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains("duplicate"), "{message}");
    }
}

#[test]
fn addresses() {
    for (text, expected) in [
        ("':50051'", "0.0.0.0:50051"),
        ("'127.0.0.1:0'", "127.0.0.1:0"),
        ("'localhost:7'", "127.0.0.1:7"),
        ("'[::1]:7'", "[::1]:7"),
        ("50052", "0.0.0.0:50052"),
    ] {
        let config = parse(&format!("server:\n  port: {text}\n")).unwrap();
        assert_eq!(config.server.address, expected.parse().unwrap());
    }
}

#[test]
fn the_operations_port_is_on_unless_switched_off() {
    let address = |text: &str| parse(text).unwrap().operations.map(|o| o.address);
    for (text, expected) in [
        ("", Some("0.0.0.0:8080")),
        ("operations: {port: '127.0.0.1:81'}", Some("127.0.0.1:81")),
        ("operations: {enabled: false}", None),
        ("operations:\n  # port: 1\n", Some("0.0.0.0:8080")),
    ] {
        let expected = expected.map(|e| e.parse().unwrap());
        assert_eq!(address(text), expected, "{text}");
    }
    for text in [
        "operations: {port: eight}",
        "operations: {enabled: false, port: eight}",
    ] {
        let message = parse(text).unwrap_err();
        assert!(message.contains("operations.port"), "{message}");
    }
}

#[test]
fn origins_are_a_list() {
    let origins = |text: &str, variables: &[(&str, &str)]| {
        let operations = parse_with(text, variables)?.operations.unwrap();
        let origins = operations.allowed_origins.iter();
        Ok::<_, String>(origins.map(|o| o.as_str().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(origins("", &[]), Ok(vec![]));
    assert_eq!(
        origins("operations: {allowed_origins: []}", &[]),
        Ok(vec![])
    );
    let two = vec!["https://a.example".to_owned(), "http://b:81".to_owned()];
    let text = "operations: {allowed_origins: ['https://A.example:443', 'http://b:81']}";
    assert_eq!(origins(text, &[]), Ok(two.clone()));
    let variable = "LIPSYNC_OPERATIONS__ALLOWED_ORIGINS";
    let value = "https://a.example, http://b:81";
    assert_eq!(origins("", &[(variable, value)]), Ok(two));
    let refused = origins("operations:\n  allowed_origins: ['*']\n", &[]).unwrap_err();
    assert!(refused.contains("config.yaml:2:"), "{refused}");
    assert!(
        refused.contains("operations.allowed_origins: expected"),
        "{refused}"
    );
    let no_list = origins("operations: {allowed_origins: 'https://a.example'}", &[]);
    assert!(no_list.unwrap_err().contains("a list, such as [a, b]"));
}

#[test]
fn what_is_no_text_is_named_with_its_place() {
    let message = parse("models:\n  a:\n    path: [x]\n").unwrap_err();
    for part in [":3:11: models.a.path", "expected a text"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load_with(Path::new("/nowhere/config.yaml"), []).unwrap_err();
    assert!(error.to_string().contains("/nowhere/config.yaml"));
}

#[test]
fn a_section_may_be_commented_out_as_a_whole() {
    let config = parse("server:\n  # worker_count: 3\nmodels:\n").unwrap();
    assert_eq!(config.server.workers.max(), 4);
    let overridden = parse_with("server:\n", &[("LIPSYNC_SERVER__WORKER_COUNT", "5")]).unwrap();
    assert_eq!(overridden.server.workers.max(), 5);
}

#[test]
fn what_is_not_there_is_told_and_no_error_unless_strict() {
    let text = "models: {a: {path: /, follow_links: true}, b: {path: nowhere, audio_encoder_path: /none}}\n";
    let config = parse(text).unwrap();
    let [path, encoder] = &config.missing[..] else {
        panic!("{:?}", config.missing)
    };
    assert!(path.starts_with("models.b.path: ") && path.ends_with("nowhere does not exist"));
    assert_eq!(encoder, "models.b.audio_encoder_path: /none does not exist");
    let follows = |config: Config| {
        config
            .registry
            .models
            .iter()
            .map(|m| m.follow_links)
            .collect()
    };
    let found: Vec<bool> = follows(config);
    assert_eq!(found, [true, false]);
    let all = parse(&format!("follow_links: true\n{text}")).unwrap();
    let found: Vec<bool> = follows(all);
    assert_eq!(found, [true, true]);
}

#[test]
fn what_one_model_may_take_is_bounded() {
    let config = parse("models: {}\n").unwrap();
    assert_eq!(config.registry.max_frames, 10_000);
    assert_eq!(config.registry.max_pack_bytes, 8 << 30);
    assert_eq!(config.engine.limits.max_macs, 40_000_000_000);
    assert_eq!(config.engine.limits.max_arena_bytes, 256 << 20);
    for (text, words) in [
        (
            "capacity: {max_frames: 0}",
            "capacity.max_frames: expected 1 to 100000",
        ),
        (
            "capacity: {max_pack_gb: 0}",
            "capacity.max_pack_gb: expected a number from 0.001 to 1000000",
        ),
        (
            "engine: {max_gmac: 0}",
            "engine.max_gmac: expected a number from 0.001 to 1000000",
        ),
        (
            "engine: {max_arena_mb: 0}",
            "engine.max_arena_mb: expected 1 to 1048576",
        ),
    ] {
        let refused = parse(text).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    for key in [
        "capacity.max_memory_gb",
        "capacity.max_host_memory_gb",
        "capacity.max_pack_gb",
        "engine.max_gmac",
    ] {
        let (section, name) = key.split_once('.').unwrap();
        for value in ["1e-300", "0.0009", "-1", "1e300", ".inf", ".nan"] {
            let refused = parse(&format!("{section}: {{{name}: {value}}}\n")).expect_err(value);
            assert!(
                refused.contains(&format!("{key}: expected a number")) && refused.len() < 150,
                "{refused}"
            );
        }
    }
    let config = parse("engine: {max_gmac: 0.5, max_arena_mb: 64}\n").unwrap();
    assert_eq!(config.engine.limits.max_macs, 500_000_000);
    assert_eq!(config.engine.limits.max_arena_bytes, 64 << 20);
}

#[test]
fn sessions_are_bounded_in_time() {
    let session = parse("").unwrap().session;
    assert_eq!(session.send_timeout.as_secs(), 60);
    assert_eq!(session.lag_timeout.unwrap().as_secs(), 10);
    assert_eq!(session.max_session, None);
    let yaml = "session: {send_timeout_s: 5, lag_timeout_s: 0, max_session_s: 3600}";
    let session = parse(yaml).unwrap();
    assert_eq!(session.session.lag_timeout, None);
    assert_eq!(session.session.send_timeout.as_secs(), 5);
    assert_eq!(session.session.max_session.unwrap().as_secs(), 3600);
    for (key, value) in [("send_timeout_s", 0), ("max_session_s", 31_536_001)] {
        let message = parse(&format!("session: {{{key}: {value}}}")).unwrap_err();
        assert!(message.contains(&format!("session.{key}")), "{message}");
    }
}

#[test]
fn devices_are_named_in_four_ways() {
    let device = |yaml: &str| {
        let yaml = format!("engine: {{device: '{yaml}'}}");
        Config::parse(&yaml, Path::new("c"), [])
            .map(|c| c.engine.device)
            .ok()
    };
    assert_eq!(device("auto"), Some(DeviceChoice::Auto));
    assert_eq!(device("cpu"), Some(DeviceChoice::Cpu));
    assert_eq!(device("cuda"), Some(DeviceChoice::Cuda));
    assert_eq!(device("cuda:3"), Some(DeviceChoice::CudaAt(3)));
    for wrong in ["cuda:", "cuda:-1", "cuda:1x", "gpu", "cuda0", "CUDA"] {
        assert_eq!(device(wrong), None, "{wrong}");
    }
    let variables = [("LIPSYNC_ENGINE__DEVICE".to_owned(), "cuda:1".to_owned())];
    let config = Config::parse("engine: {device: cpu}", Path::new("c"), variables).unwrap();
    assert_eq!(config.engine.device, DeviceChoice::CudaAt(1));
}

#[test]
fn workers_are_a_number_a_range_or_auto() {
    let cuda = "engine: {device: cuda}\n";
    let bounds = |yaml: &str| {
        let config = parse(&format!("{cuda}server: {{worker_count: {yaml}}}\n")).unwrap();
        config.server.workers.bounds()
    };
    assert_eq!(bounds("6"), (6, 6));
    assert_eq!(bounds("auto"), (2, 8));
    assert_eq!(bounds("{min: 3, max: 12}"), (3, 12));
    assert_eq!(bounds("{max: 12}"), (1, 12));
    assert_eq!(bounds("3-12"), (3, 12));
    let variable = [("LIPSYNC_SERVER__WORKER_COUNT", "2-6")];
    let config = parse_with(
        &format!("{cuda}server: {{worker_count: {{min: 9}}}}\n"),
        &variable,
    );
    assert_eq!(config.unwrap().server.workers.bounds(), (2, 6));
    let auto = parse("server: {worker_count: auto}\n")
        .unwrap()
        .server
        .workers;
    let (min, max) = auto.bounds();
    assert!(min <= 2 && max == n_cores().min(256), "{auto}");
    let refused = parse("server: {worker_count: Auto}\n").unwrap_err();
    assert!(
        refused.contains("a whole number, auto, or {min: 2, max: 8}"),
        "{refused}"
    );
}

#[test]
fn budgets_may_be_automatic() {
    let text = "capacity: {max_memory_gb: auto, max_host_memory_gb: auto}\n\
        server: {max_upload_mb: auto, max_unsent_mb: auto}\nengine: {visual_cache_mb: auto}\n";
    let (auto, unsaid) = (parse(text).unwrap(), parse("").unwrap());
    let budgets = |config: &Config| {
        let (registry, server) = (&config.registry, &config.server);
        let host = (server.max_upload_bytes, server.max_unsent_bytes);
        let cache = config.engine.visual_cache_bytes;
        (registry.max_bytes, registry.max_frame_bytes, host, cache)
    };
    assert_eq!(budgets(&auto), budgets(&unsaid));
    let warnings = auto.warnings.join("\n");
    assert!(!warnings.contains("budgets"), "{warnings}");
    let refused = parse("capacity: {max_memory_gb: much}\n").unwrap_err();
    assert!(
        refused.contains("expected a number or auto, found"),
        "{refused}"
    );
    let huge = parse("capacity: {max_memory_gb: 900000}\n").unwrap();
    let warning = huge.warnings.join("\n");
    assert!(
        warning.contains("capacity.max_memory_gb (921600000 MiB)"),
        "{warning}"
    );
}

#[test]
fn keys_of_resume_tokens_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resume.key");
    let text = format!("session: {{resume_key_file: {}}}\n", file.display());
    let refused = parse(&text).unwrap_err();
    assert!(refused.contains("session.resume_key_file: "), "{refused}");
    assert!(refused.contains("cannot be read"), "{refused}");
    std::fs::write(&file, "a secret that is short").unwrap();
    let refused = parse(&text).unwrap_err();
    assert!(
        refused.contains("at least 32 characters, found 22"),
        "{refused}"
    );
    assert!(!refused.contains("secret"), "{refused}");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    assert!(parse(&text).unwrap().session.resume_keys.is_some());
    assert!(parse("").unwrap().session.resume_keys.is_none());
}
