//! `tenants:`: what is refused, and what is only said.

use lipsync_core::{ModelId, Priority, TenantId};
use lipsync_serving::rights::{FrameRate, Models};

use super::*;
use crate::{
    config::tenants::RawTenant,
    tenants::{Digest, Tenants},
};

const MODELS: &str = "models:\n  mira: {path: /}\n  tomo: {path: /, fps: 30}\n";

fn hash(key: &str) -> String {
    Digest::of(key.as_bytes()).unwrap().hex()
}

fn with(tenants: &str) -> Result<Config, String> {
    parse(&format!("{MODELS}tenants:\n{tenants}"))
}

fn tenants(text: &str) -> Arc<Tenants> {
    with(text).unwrap().tenants
}

#[test]
fn without_the_section_there_is_one_tenant_without_keys() {
    for text in ["", "tenants:\n", "tenants: {}\n"] {
        assert!(parse(text).unwrap().tenants.is_empty(), "{text}");
    }
}

#[test]
fn a_tenant_is_what_is_written_or_the_default() {
    let a = format!(
        "  acme:\n    keys:\n      new: {{sha256: \"{}\"}}\n      old: {{sha256: {}, expires: 2099-01-31}}\n    \
         models: [mira]\n    weight: 3\n    default_priority: low\n    max_priority: high\n    admin: true\n    \
         frames_per_second: 100\n    burst_frames: 70\n    max_sessions: 4\n    max_requests: 0\n    \
         max_waiting_mb: 64\n    max_resident_models: 2\n    defaults: {{mira: {{format: png, jpeg_quality: 90, priority: high}}}}\n",
        hash("new"),
        hash("old")
    );
    let found = tenants(&format!(
        "{a}  plain: {{keys: {{k: {{sha256: {}}}}}}}\n",
        hash("k")
    ));
    let [acme, plain] = found.list() else {
        panic!("{found:?}")
    };
    assert_eq!(acme.id, TenantId::new("acme"));
    assert_eq!((acme.weight.get(), plain.weight.get()), (3, 1));
    assert_eq!(
        (acme.priority, plain.priority),
        (Priority::Low, Priority::Normal)
    );
    assert_eq!(acme.rights.max_priority, Priority::High);
    assert_eq!(plain.rights.max_priority, Priority::Normal);
    assert!(acme.rights.is_admin && !plain.rights.is_admin);
    let mira = ModelId::new("mira").unwrap();
    assert_eq!(acme.rights.models, Models::Only([mira.clone()].into()));
    assert_eq!(plain.rights.models, Models::All);
    let quotas = acme.rights.quotas;
    let rate = FrameRate {
        per_second: 100,
        burst: 70,
    };
    assert_eq!(quotas.frames, Some(rate));
    assert_eq!(
        (quotas.max_sessions, quotas.max_requests),
        (Some(4), Some(0))
    );
    assert_eq!(quotas.max_waiting_bytes, Some(64 << 20));
    assert_eq!(quotas.max_resident_models, Some(2));
    assert_eq!(plain.rights.quotas, Default::default());
    let names: Vec<_> = acme.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["new", "old"]);
    let defaults = acme.defaults.get(&mira).unwrap();
    assert_eq!(defaults.priority, Some(Priority::High));
    let output = with(&a).unwrap().output;
    assert_eq!(output.with(defaults).jpeg_quality, 90);
    assert!(matches!(
        output.with(defaults).encoding,
        lipsync_compositor::Encoding::Png
    ));
}

#[test]
fn a_burst_is_two_seconds_and_never_less_than_a_request() {
    for (rate, burst) in [(1, 64), (100, 200)] {
        let found = tenants(&format!("  a: {{frames_per_second: {rate}}}\n"));
        let frames = found.list()[0].rights.quotas.frames.unwrap();
        assert_eq!(frames.burst, burst);
    }
}

/// What is written, where it is wrong, and what is said.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("  a: {weight: 0}\n", ":5:7", "expected 1 to 1000, found 0"),
    (
        "  a: {weight: .nan}\n",
        ":5:15",
        "expected a whole number, found .nan",
    ),
    ("  a: {weight: 1001}\n", ":5:7", "found 1001"),
    ("  a: {wieght: 1}\n", ":5:7", "did you mean weight?"),
    (
        "  a: {models: [miro]}\n",
        ":5:7",
        "found \"miro\"; there are mira, tomo",
    ),
    ("  a: {models: []}\n", ":5:7", "leave the key out for all"),
    ("  a: {models: mira}\n", ":5:15", "expected a list"),
    (
        "  a: {default_priority: vip}\n",
        ":5:25",
        "expected high, normal or low",
    ),
    (
        "  a: {default_priority: high, max_priority: normal}\n",
        ":5:7",
        "expected at most normal (max_priority of this tenant), found high",
    ),
    (
        "  a: {max_priority: urgent}\n",
        ":5:21",
        "expected high, normal or low",
    ),
    (
        "  a: {max_priority: low, default_priority: normal}\n",
        ":5:26",
        "expected at most low (max_priority of this tenant), found normal",
    ),
    ("  a: {admin: maybe}\n", ":5:14", "true or false"),
    ("  a: {frames_per_second: 0}\n", ":5:7", "found 0"),
    (
        "  a: {frames_per_second: 25, burst_frames: 50}\n",
        ":5:30",
        "expected at least 64 (server.max_batch_frames: the largest request), found 50",
    ),
    (
        "  a: {burst_frames: 64}\n",
        ":5:7",
        "goes with frames_per_second",
    ),
    (
        "  a: {max_waiting_mb: 49}\n",
        ":5:7",
        "expected at least 50 (server.max_message_size_mb: the largest request), found 49",
    ),
    ("  a: {max_sessions: -1}\n", ":5:21", "not below 0"),
    ("  a: {max_requests: 1000001}\n", ":5:7", "found 1000001"),
    ("  a: {max_resident_models: 0}\n", ":5:7", "found 0"),
    (
        "  a: {defaults: {nobody: {format: png}}}\n",
        ":5:18",
        "found \"nobody\"",
    ),
    (
        "  a: {models: [mira], defaults: {tomo: {format: png}}}\n",
        ":5:34",
        "may not use this model",
    ),
    (
        "  a: {defaults: {mira: {format: gif}}}\n",
        ":5:33",
        "expected jpeg",
    ),
    (
        "  a: {defaults: {mira: {jpeg_quality: 0}}}\n",
        ":5:25",
        "expected 1 to 100, found 0",
    ),
    (
        "  a: {defaults: {mira: {priority: high}}}\n",
        ":5:25",
        "expected at most normal (max_priority of this tenant), found high",
    ),
    (
        "  a: {keys: {k: {}}}\n",
        ":5:14",
        "expected sha256; `lipsync-server keys new`",
    ),
    (
        "  a: {keys: {k: {sha256: abc}}}\n",
        ":5:18",
        "64 hexadecimal digits, found 3",
    ),
    ("  a: {keys: [x]}\n", ":5:13", "names below it"),
    ("  a: {}\n  a: {}\n", ":6:3", "duplicate"),
    ("  a b: {}\n", ":5:3", "expected an id of 1 to 64 letters"),
    ("  7: {}\n", ":5:3", "in quotes"),
    ("  - a\n", ":5:3", "without dashes"),
];

/// What is not refused as it should be.
fn wrongly_refused<'a>(cases: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let wrong = cases.into_iter().filter_map(|(text, place, words)| {
        let refused = with(text).map(drop).expect_err(text);
        let is_right = refused.contains(words)
            && refused.contains(&format!("config.yaml{place}: tenants"))
            && refused.lines().count() == 1;
        (!is_right).then(|| format!("{text}expected {place}, {words}:\n{refused}\n"))
    });
    wrong.collect()
}

#[test]
fn every_mistake_is_refused_with_its_place() {
    assert_eq!(wrongly_refused(MISTAKES.iter().copied()), "");
    let (k, other) = (hash("k"), hash("other"));
    let twice = format!(
        "  a: {{keys: {{one: {{sha256: {k}}}}}}}\n  b: {{keys: {{two: {{sha256: {k}}}}}}}\n"
    );
    let cases: [(String, &str, &str); 3] = [
        (
            format!("  a: {{keys: {{k: {{sha256: {k}, expires: soon}}}}}}\n"),
            ":5:92",
            "expected a date such as 2027-01-31",
        ),
        (twice, ":6:20", "this is the key of tenants.a.keys.one, too"),
        (
            format!("  a: {{keys: {{k: {{sha256: {k}}}, k: {{sha256: {other}}}}}}}\n"),
            ":5:93",
            "duplicate",
        ),
    ];
    let cases = cases.iter();
    let cases = cases.map(|(text, place, words)| (text.as_str(), *place, *words));
    assert_eq!(wrongly_refused(cases), "");
}

/// Each key, with what is of another type or far too large in its place.
#[test]
fn a_wrong_type_is_refused_at_the_value_whatever_the_key() {
    for (path, _) in RawTenant::KEYS {
        let name = path.rsplit('.').next().unwrap();
        let line = match path.replace("tenants.<id>.", "").as_str() {
            "models" | "certificates" => format!("    {name}: {{is: a list}}"),
            path if path.contains("keys.") => format!("    keys:\n      k:\n        {name}: [1]"),
            path if path.contains("defaults.") => {
                format!("    defaults:\n      mira:\n        {name}: [1]")
            }
            _ => format!("    {name}: [1]"),
        };
        let number = line.lines().count() + 5;
        let refused = with(&format!("  a:\n{line}\n")).map(drop).expect_err(path);
        let place = format!("config.yaml:{number}:");
        assert!(
            refused.contains(&place) && refused.contains(&format!(".{name}: expected")),
            "{path}: {refused}"
        );
    }
}

#[test]
fn no_number_is_read_as_another() {
    let numbers = [
        "weight",
        "frames_per_second",
        "burst_frames",
        "max_sessions",
        "max_requests",
        "max_waiting_mb",
        "max_resident_models",
    ];
    for name in numbers {
        for value in [
            ".nan",
            ".inf",
            "-1",
            "1.5",
            "4294967296",
            "1e3",
            "many",
            "'7'",
            "true",
            "~",
        ] {
            let read = with(&format!("  a:\n    {name}: {value}\n"));
            // An empty value is none.
            let Err(refused) = read else {
                assert_eq!(value, "~", "{name}");
                continue;
            };
            let column = 7 + name.len();
            let places =
                [column, 5].map(|column| format!("config.yaml:6:{column}: tenants.a.{name}"));
            let is_placed = places.iter().any(|place| refused.contains(place));
            assert!(is_placed, "{name}: {value}: {refused}");
        }
    }
}

#[test]
fn a_key_in_place_of_its_hash_is_not_repeated() {
    let refused = with("  a: {keys: {k: {sha256: lsk_0123456789}}}\n").map(drop);
    let refused = refused.unwrap_err();
    assert!(refused.contains("this is a key itself"), "{refused}");
    assert!(!refused.contains("0123456789"), "{refused}");
}

#[test]
fn what_is_odd_is_said_and_serves() {
    let text = format!(
        "  a: {{keys: {{old: {{sha256: {}, expires: 2020-02-29}}}}, models: [tomo], \
         frames_per_second: 25, max_sessions: 101}}\n  b: {{models: [tomo]}}\n  \
         c: {{models: [tomo], certificates: [C]}}\n",
        hash("k")
    );
    let warnings = with(&text).unwrap().warnings;
    for words in [
        "tenants.a.keys.old: expired on 2020-02-29",
        "tenants.a.max_sessions: 101 are never reached: session.max_sessions is 100",
        "tenants.a.frames_per_second: 25 are too few for one paced session of tomo, which shows 30",
        "tenants.b: has no keys, so nobody can call for it",
        "tenants.c.certificates: no port asks for certificates: set server.tls.client_ca",
        "models.mira: no tenant may use it",
    ] {
        let is_said =
            |warning: &String| warning.contains(words) && warning.contains("config.yaml: ");
        assert!(warnings.iter().any(is_said), "{words}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 6, "{warnings:?}");
}

#[test]
fn a_name_on_a_certificate_belongs_to_one_tenant() {
    let tls = "server: {tls: {cert: c, key: k, client_ca: a}}\n";
    let text = "tenants:\n  a: {certificates: [node 1, node 2]}\n";
    let found = parse(&format!("{MODELS}{tls}{text}")).unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    let shown = crate::tenants::Shown::Certificate("node 2");
    let now = std::time::SystemTime::now();
    let tenant = found.tenants.identify(shown, false, now).unwrap();
    assert_eq!(tenant.id.to_string(), "a");
    for (text, words) in [
        (
            "  a: {certificates: [x]}\n  b: {certificates: [y, x]}\n",
            "tenants.a has \"x\", too: a name belongs to one tenant",
        ),
        (
            "  a: {certificates: [x, x]}\n",
            "a name belongs to one tenant",
        ),
        (
            "  a: {certificates: [\"\"]}\n",
            "1 to 256 bytes, found \"\"",
        ),
        (
            "  a: {certificates: [\"a\\nb\"]}\n",
            "common names of certificates",
        ),
        ("  a: {certificates: acme}\n", "expected a list"),
    ] {
        let refused = with(text).map(drop).unwrap_err();
        assert!(refused.contains(words), "{text}: {refused}");
    }
}

#[test]
fn ports_that_others_reach_are_named_where_nothing_protects_them() {
    let with = |more: &str| parse(more).unwrap().exposure().unwrap_or_default();
    let tls = "tls: {cert: c, key: k}";
    let tenants = format!(
        "tenants: {{a: {{keys: {{k: {{sha256: {}}}}}}}}}\n",
        hash("k")
    );
    let near = "server: {port: 'localhost:1'}\noperations: {port: '[::1]:2'}\n";
    for (text, words) in [
        (
            String::new(),
            "whoever reaches server.port 0.0.0.0:50051 and operations.port 0.0.0.0:8080 may",
        ),
        (
            format!("server: {{{tls}}}\n"),
            "whoever reaches server.port 0.0.0.0:50051 and operations",
        ),
        (
            "server: {tls: {cert: c, key: k, client_ca: a}}\n".into(),
            "whoever reaches operations.port",
        ),
        (
            tenants.clone(),
            "in clear to server.port 0.0.0.0:50051 and operations.port 0.0.0.0:8080; set tls",
        ),
        (
            format!("{tenants}server: {{{tls}}}\n"),
            "in clear to operations.port 0.0.0.0:8080;",
        ),
    ] {
        let said = with(&text);
        assert!(said.contains(words), "{text}: {said}");
    }
    for text in [
        near.to_owned(),
        format!("{tenants}{near}"),
        format!("{tenants}server: {{{tls}}}\noperations: {{enabled: false}}\n"),
    ] {
        assert_eq!(with(&text), "", "{text}");
    }
}

#[test]
fn many_tenants_are_read_and_told_apart() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for n in 0..2_000 {
        let hash = hash(&format!("key-{n}"));
        write!(
            text,
            "  t{n}:\n    keys:\n      k:\n        sha256: {hash}\n"
        )
        .unwrap();
    }
    let found = tenants(&text);
    let now = std::time::SystemTime::now();
    for n in [0, 1_999] {
        let key = format!("key-{n}");
        let shown = crate::tenants::Shown::Key(key.as_bytes());
        let tenant = found.identify(shown, false, now).unwrap();
        assert_eq!(tenant.id.to_string(), format!("t{n}"));
    }
}

#[test]
fn variables_set_keys_of_tenants_whatever_their_ids() {
    let text = format!(
        "{MODELS}tenants:\n  Acme-1.eu: {{keys: {{Main: {{sha256: {}}}}}}}\n",
        hash("k")
    );
    let variables = [
        ("LIPSYNC_TENANTS__ACME_1_EU__WEIGHT", "7"),
        (
            "LIPSYNC_TENANTS__ACME_1_EU__KEYS__MAIN__EXPIRES",
            "2099-01-01",
        ),
        ("LIPSYNC_TENANTS__ACME_1_EU__MODELS", "mira, tomo"),
    ];
    let config = parse_with(&text, &variables).unwrap();
    let [tenant] = config.tenants.list() else {
        panic!("{:?}", config.tenants)
    };
    assert_eq!(tenant.weight.get(), 7);
    assert!(tenant.keys[0].expires.is_some());
    let near = [("LIPSYNC_TENANTS__ACME_1_EX__WEIGHT", "7")];
    let config = parse_with(&text, &near).unwrap();
    let is_said = |warning: &String| warning.contains("adds a tenant \"acme_1_ex\"");
    assert!(config.warnings.iter().any(is_said), "{:?}", config.warnings);
}
