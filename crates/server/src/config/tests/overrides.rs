//! What the environment changes, and what is said of the rest of it.

use super::*;

#[test]
fn the_environment_overrides_single_keys() {
    let text = "server:\n  worker_count: 2\nmodels:\n  Mira:\n    path: /\n";
    let config = parse_with(
        text,
        &[
            ("LIPSYNC_SERVER__WORKER_COUNT", " 8\r"),
            ("LIPSYNC_SERVER__PORT", "6000"),
            ("LIPSYNC_CAPACITY__IDLE_TIMEOUT_MINUTES", "1.5"),
            ("LIPSYNC_CAPACITY__BAKE", "off"),
            ("LIPSYNC_OUTPUT__MARK_GENERATED", "False"),
            ("LIPSYNC_MODELS__MIRA__PRELOAD", "true"),
            ("LIPSYNC_MODELS__NEW__PATH", "/"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.workers.max(), 8);
    assert_eq!(config.server.address, "0.0.0.0:6000".parse().unwrap());
    assert!(!config.registry.bake && !config.output.mark_generated);
    assert_eq!(config.registry.idle_timeout, Some(Duration::from_secs(90)));
    let [mira, new] = config.registry.models.as_slice() else {
        panic!("{:?}", config.registry.models)
    };
    assert_eq!((mira.id.as_str(), mira.preload), ("Mira", true));
    assert_eq!(new.id.as_str(), "new");
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// A key that is at the top of the file has a variable like every other, whichever keys there are.
#[test]
fn every_key_has_a_variable() {
    for leaf in schema::Schema::learn().leaves() {
        let leaf: Vec<_> = leaf
            .iter()
            .map(|&part| if part == schema::NAME { "a" } else { part })
            .collect();
        let variable = schema::variable(&leaf);
        let mut tree = Node::Null;
        let said = environment::apply(&mut tree, &Schema::learn(), &variable, "v");
        assert_eq!(said, Ok(None), "{variable}");
        let path = tree.path_of(&leaf.join(".")).expect(&variable);
        assert_eq!(tree.along(&path).len(), leaf.len(), "{variable}");
    }
}

#[test]
fn keys_of_the_top_are_set() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("avatars/a")).unwrap();
    std::fs::create_dir(folder.path().join("packs")).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (root, packs) = (path("avatars"), path("packs"));
    let variables = [
        ("LIPSYNC_MODELS_ROOT", &*root),
        ("LIPSYNC_CACHE_DIR", &*packs),
    ];
    let config = parse_with("cache_dir: /nowhere\nmodels: {a: {path: a}}", &variables).unwrap();
    assert_eq!(config.registry.cache_dir, Some(PathBuf::from(&packs)));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let message = parse_with("", &[("LIPSYNC_CACHE_DIR", &path("file"))]).unwrap_err();
    assert!(
        message.starts_with("environment variable LIPSYNC_CACHE_DIR: cache_dir: "),
        "{message}"
    );
    assert!(message.ends_with("is not a folder"), "{message}");
}

#[test]
fn a_cache_dir_that_is_missing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = parse_with("", &[("LIPSYNC_CACHE_DIR", &path("var/cache/packs"))]).unwrap();
    assert!(!folder.path().join("var").exists(), "reading makes nothing");
    made.make_cache_dir().unwrap();
    made.make_cache_dir().unwrap();
    assert!(folder.path().join("var/cache/packs").is_dir());
    std::fs::write(folder.path().join("file"), "").unwrap();
    let within = parse_with("", &[("LIPSYNC_CACHE_DIR", &path("file/packs"))]).unwrap();
    let message = within.make_cache_dir().unwrap_err().to_string();
    assert!(message.contains("cache_dir: the folder "), "{message}");
    assert!(message.contains("file/packs cannot be made: "), "{message}");
}

#[test]
fn texts_stay_texts() {
    for (value, address) in [
        ("[::]:50051", "[::]:50051"),
        ("[::1]:50051", "[::1]:50051"),
        (":50051", "0.0.0.0:50051"),
        ("50051", "0.0.0.0:50051"),
    ] {
        let config = parse_with("", &[("LIPSYNC_SERVER__PORT", value)]).unwrap();
        assert_eq!(config.server.address, address.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for name in [
        "on", "no", "true", "1e3", "007", "0x10", "1.10", "~", "null", "[a]", "{a}", "a: b", "#a",
        "*", "é",
    ] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let variables = [
            ("LIPSYNC_MODELS_ROOT", root),
            ("LIPSYNC_MODELS__A__PATH", name),
        ];
        let config = parse_with("", &variables).expect(name);
        let source = format!("{:?}", config.registry.models[0].source);
        assert!(source.contains(&format!("/{name}\"")), "{source}");
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_the_name_of_its_variable() {
    let text = "server:\n  worker_count: 2\nmodels: {A: {path: /}, a: {path: /}}\n";
    for (variable, value, words) in [
        (
            "LIPSYNC_SERVER__WORKER_COUNT",
            "eight",
            "server.worker_count: expected a whole number",
        ),
        (
            "LIPSYNC_SERVER__WORKER_COUNT",
            "[8]",
            "found the text \"[8]\"",
        ),
        ("LIPSYNC_SERVER__WORKER_COUNT", "1e+06", "write 1000000"),
        (
            "LIPSYNC_SERVER__WORKER_COUNT",
            "0",
            "expected 1 to 256, found 0",
        ),
        (
            "LIPSYNC_SERVER__WORKER_COUNT",
            "\"8\"",
            "write 8 without quotes",
        ),
        (
            "LIPSYNC_SERVER__SHUTDOWN_GRACE_S",
            "30s",
            "write 30, the key counts in seconds",
        ),
        ("LIPSYNC_OPERATIONS__ENABLED", "no", "write false"),
        ("LIPSYNC_CAPACITY__BAKE", "false", "write off"),
        ("LIPSYNC_LOGGING__LEVEL", "inof", "write info"),
        ("LIPSYNC_MODELS__A__PRELOAD", "true", "differ by case alone"),
        (
            "LIPSYNC_MODELS__B__PRELOAD",
            "true",
            "models.b: expected either path",
        ),
        ("LIPSYNC_MODELS__B C__PATH", "/", "models.b c"),
        ("LIPSYNC_CACHE_DIR", "/\u{fffd}", "not UTF-8"),
        (
            "LIPSYNC_SERVER__PORT",
            "50051 50052",
            "server.port: expected",
        ),
    ] {
        let message = parse_with(text, &[(variable, value)]).expect_err(value);
        let place = format!("environment variable {variable}: ");
        assert!(message.starts_with(&place), "{message}");
        assert!(message.contains(words), "{value:?}: {message}");
    }
}

#[test]
fn a_name_that_matches_no_key_is_said_and_changes_nothing() {
    let text = "models: {mira: {path: /}}";
    for (variable, meant) in [
        ("LIPSYNC_SERVER__WORKERS", "LIPSYNC_SERVER__WORKER_COUNT?"),
        ("LIPSYNC_SERVER_PORT", "LIPSYNC_SERVER__PORT?"),
        ("LIPSYNC_SERVER___PORT", "LIPSYNC_SERVER__PORT?"),
        ("LIPSYNC_SERVR__PORT", "LIPSYNC_SERVER__PORT?"),
        (
            "LIPSYNC_PORT",
            "LIPSYNC_SERVER__PORT or LIPSYNC_OPERATIONS__PORT?",
        ),
        ("LIPSYNC_WORKER_COUNT", "LIPSYNC_SERVER__WORKER_COUNT?"),
        ("LIPSYNC_CACHEDIR", "LIPSYNC_CACHE_DIR?"),
        ("LIPSYNC_CACHE__DIR", "LIPSYNC_CACHE_DIR?"),
        ("LIPSYNC_MODELS__ROOT", "LIPSYNC_MODELS_ROOT?"),
        (
            "LIPSYNC_MODELS__MIRA__PRELAOD",
            "LIPSYNC_MODELS__MIRA__PRELOAD?",
        ),
        ("LIPSYNC_MODELS____PRELOAD", "SECTION__KEY"),
        ("LIPSYNC_CONFIG", "--config names the file"),
        ("LIPSYNC_SERVER", "SECTION__KEY"),
        ("LIPSYNC_FLAVOUR", "SECTION__KEY"),
        ("LIPSYNC_", "SECTION__KEY"),
        ("LIPSYNC___", "SECTION__KEY"),
    ] {
        let config = parse_with(text, &[(variable, "50051")]).expect(variable);
        let [warning] = config.warnings.as_slice() else {
            panic!("{variable}: {:?}", config.warnings)
        };
        assert!(warning.starts_with(&format!("environment variable {variable}: ")));
        assert!(warning.contains(meant), "{warning}");
        assert_eq!(config.server.address.port(), 50051);
    }
    for (variable, value, words) in [
        ("LIPSYNC_SERVER__PORT", "", "is empty"),
        ("LIPSYNC_CACHE_DIR", " ", "is empty"),
        ("LIPSYNC_MODELS__MIRO__PATH", "/", "did you mean \"mira\"?"),
    ] {
        let warnings = parse_with(text, &[(variable, value)]).unwrap().warnings;
        assert!(warnings[0].contains(words), "{warnings:?}");
    }
    let shown = parse_with(text, &[("LIPSYNC_\u{1b}[31m", &"x".repeat(1 << 20))]).unwrap();
    assert!(shown.warnings[0].len() < 500 && !shown.warnings[0].contains('\u{1b}'));
}

/// What Kubernetes gives to every container beside services `lipsync`, `lipsync-server` and `lipsync-models`.
#[test]
fn links_to_services_are_no_keys() {
    let mut variables = Vec::new();
    for service in ["LIPSYNC", "LIPSYNC_SERVER", "LIPSYNC_MODELS"] {
        let link = |end: &str, value: &str| (format!("{service}_{end}"), value.to_owned());
        variables.extend([
            link("SERVICE_HOST", "10.0.0.1"),
            link("SERVICE_PORT", "50051"),
            link("SERVICE_PORT_GRPC", "50051"),
            link("PORT", "tcp://10.0.0.1:50051"),
            link("PORT_50051_TCP", "tcp://10.0.0.1:50051"),
            link("PORT_50051_TCP_PROTO", "tcp"),
            link("PORT_50051_TCP_PORT", "50051"),
            link("PORT_50051_TCP_ADDR", "10.0.0.1"),
            link("PORT_53_UDP", "udp://10.0.0.1:53"),
        ]);
    }
    let config = Config::parse("models: {a: {path: /}}", Path::new("c"), variables).unwrap();
    assert_eq!(config.server.address, "0.0.0.0:50051".parse().unwrap());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn ids_that_fit_into_no_variable_are_found_by_underscores() {
    let text =
        "models:\n  a.b-c: {path: /}\n  A_B: {path: /}\n  a-b: {path: /}\n  d__e: {path: /}\n";
    let preloaded = |variables: &[(&str, &str)]| -> Vec<String> {
        let config = parse_with(text, variables).unwrap();
        let models = config.registry.models.iter();
        let preloaded = models.filter(|model| model.preload);
        preloaded.map(|model| model.id.to_string()).collect()
    };
    for (variable, id) in [
        ("LIPSYNC_MODELS__A_B_C__PRELOAD", "a.b-c"),
        ("LIPSYNC_MODELS__a.b-c__PRELOAD", "a.b-c"),
        // As it is written goes before what it could stand for.
        ("LIPSYNC_MODELS__A_B__PRELOAD", "A_B"),
        ("LIPSYNC_MODELS__A-B__PRELOAD", "a-b"),
        ("LIPSYNC_MODELS__D__E__PRELOAD", "d__e"),
    ] {
        assert_eq!(preloaded(&[(variable, "true")]), [id], "{variable}");
    }
    let text = "models:\n  a.b: {path: /}\n  a-b: {path: /}\n";
    let message = parse_with(text, &[("LIPSYNC_MODELS__A_B__PRELOAD", "true")]).unwrap_err();
    for words in ["\"a.b\" and \"a-b\"", "differ by dots and dashes alone"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_name_in_another_case_is_said_if_it_is_no_key() {
    for variable in [
        "lipsync_server__worker_count",
        "Lipsync_Server__Worker_Count",
    ] {
        let config = parse_with("models: {a: {path: /}}", &[(variable, "8")]).unwrap();
        assert_eq!(config.server.workers.max(), 4);
        let [warning] = config.warnings.as_slice() else {
            panic!("{variable}: {:?}", config.warnings)
        };
        assert!(warning.contains("did you mean LIPSYNC_SERVER__WORKER_COUNT?"));
        assert!(warning.contains("changes nothing"), "{warning}");
    }
    let config = parse_with(
        "models: {a: {path: /}}",
        &[("lipsync_home", "/x"), ("LIPSY", "1")],
    );
    assert_eq!(config.unwrap().warnings, Vec::<String>::new());
    let mixed = [("LIPSYNC_Server__Worker_Count", "8")];
    assert_eq!(parse_with("", &mixed).unwrap().server.workers.max(), 8);
}

#[test]
fn a_name_that_is_a_key_but_for_its_beginning_or_its_marks_is_said() {
    let meant = "did you mean LIPSYNC_SERVER__WORKER_COUNT?";
    for variable in [
        "LYPSYNC_SERVER__WORKER_COUNT",
        "LIPSYNCH_SERVER__WORKER_COUNT",
        "LIP_SYNC_SERVER__WORKER_COUNT",
        "LIPSYNC-SERVER--WORKER-COUNT",
        "LIPSYNC.SERVER.WORKER_COUNT",
        "lipsync.server.worker_count",
    ] {
        let config = parse_with("models: {a: {path: /}}", &[(variable, "8")]).unwrap();
        assert!(config.warnings[0].contains(meant), "{:?}", config.warnings);
        assert_eq!((config.server.workers.max(), config.warnings.len()), (4, 1));
    }
    // Those of other programs.
    for variable in [
        "LIPSYNCER_HOME",
        "CLIPSYNC_UI__COLOUR",
        "AIRFLOW__SERVER__PORT",
        "LIVEKIT_SERVER__PORT",
        "LIPSYNC.HOME",
        "L\u{e9}PSYNC_SERVER__X",
    ] {
        let config = parse_with("models: {a: {path: /}}", &[(variable, "8")]).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{variable}");
    }
    let message =
        parse_with("", &[("LIPSYNC_SERVER__WORKER_COUNT", "{min: 2, max: 8}")]).unwrap_err();
    assert!(
        message.contains("in a variable, write a range as 2-8"),
        "{message}"
    );
}

#[test]
fn two_variables_for_one_key_are_refused() {
    let text = "models: {mira: {path: /}}";
    for (one, other) in [
        ("LIPSYNC_SERVER__PORT", "LIPSYNC_Server__Port"),
        ("LIPSYNC_MODELS__MIRA__FPS", "LIPSYNC_MODELS__mira__FPS"),
    ] {
        let message = parse_with(text, &[(one, "25"), (other, "30")]).unwrap_err();
        for words in [one, other, "sets the same key as", "keep one"] {
            assert!(message.contains(words), "{message}");
        }
        // An empty one changes nothing.
        assert!(parse_with(text, &[(one, "25"), (other, "")]).is_ok());
    }
}

#[test]
fn ids_that_differ_by_case_alone_are_warned_of() {
    let config = parse("models: {mira: {path: /}, Mira: {path: /}, tomo: {path: /}}").unwrap();
    let [warning] = config.warnings.as_slice() else {
        panic!("{:?}", config.warnings)
    };
    assert!(
        warning.contains("models.mira and models.Mira differ by case alone"),
        "{warning}"
    );
}

#[test]
fn a_value_with_a_line_break_is_shown_escaped() {
    for (variable, words) in [
        (
            "LIPSYNC_MODELS_ROOT",
            r#"found "/x\ny": it has a control character"#,
        ),
        ("LIPSYNC_SERVER__PORT", r#"found "/x\ny""#),
        ("LIPSYNC_LOGGING__LEVEL", r#"found "/x\ny""#),
        ("LIPSYNC_SERVER__WORKER_COUNT", r#"found the text "/x\ny""#),
    ] {
        let message = parse_with("", &[(variable, "/x\ny")]).unwrap_err();
        assert!(message.contains(words), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
