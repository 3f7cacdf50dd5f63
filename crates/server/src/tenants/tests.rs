use std::time::Duration;

use lipsync_serving::rights::Quotas;

use super::*;

fn tenant(id: &str, keys: &[(&str, Option<SystemTime>)]) -> Tenant {
    let keys = keys.iter().map(|(key, expires)| Key {
        name: (*key).to_owned(),
        digest: Digest::of(key.as_bytes()).unwrap(),
        expires: *expires,
    });
    Tenant {
        id: TenantId::new(id),
        weight: Weight::default(),
        priority: Priority::default(),
        rights: Arc::new(Rights {
            is_one_of_many: true,
            ..Rights::default()
        }),
        defaults: BTreeMap::new(),
        keys: keys.collect(),
        certificates: vec![format!("{id} of the north")],
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn a_key_finds_its_tenant_until_it_expires() {
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (old, new) = (("old-key", Some(noon)), ("new-key", None));
    let tenants = Tenants::new(vec![
        tenant("a", &[old, new]),
        tenant("b", &[("b-key", None)]),
    ]);
    let find = |key: &str, now| {
        let found = tenants.identify(Shown::Key(key.as_bytes()), true, now);
        found.map(|tenant| tenant.id.to_string()).map_err(drop)
    };
    let before = noon - Duration::from_nanos(1);
    // While a key is rotated both are good.
    assert_eq!(find("old-key", before), Ok("a".into()));
    assert_eq!(find("new-key", before), Ok("a".into()));
    assert_eq!(find("old-key", noon), Err(()));
    assert_eq!(find("new-key", noon), Ok("a".into()));
    assert_eq!(
        find("old-key", before),
        Ok("a".into()),
        "the clock was set back"
    );
    assert_eq!(find("b-key", noon), Ok("b".into()));
    for wrong in ["", "b-ke", "b-key ", "B-KEY", &"k".repeat(1 << 20)] {
        assert_eq!(find(wrong, noon), Err(()), "{}", wrong.len());
    }
}

#[test]
fn without_a_key_there_is_nobody_and_without_tenants_everybody() {
    let now = SystemTime::now();
    let tenants = Tenants::new(vec![tenant("a", &[("k", None)])]);
    let nobody = tenants.identify(Shown::Nothing, true, now).unwrap();
    assert!(!nobody.rights.is_admin);
    assert!(!nobody.rights.may_see(&ModelId::new("m").unwrap()));
    for shown in [Shown::Nothing, Shown::Unreadable] {
        let refused = tenants.identify(shown, false, now);
        assert!(matches!(refused, Err(ServeError::Unauthenticated)));
    }
    assert!(tenants.identify(Shown::Unreadable, true, now).is_err());
    let none = Tenants::default();
    for shown in [Shown::Nothing, Shown::Key(b"anything"), Shown::Unreadable] {
        let everybody = none.identify(shown, false, now).unwrap();
        assert!(everybody.rights.is_admin && !everybody.rights.is_one_of_many);
    }
}

#[test]
fn a_certificate_is_its_tenants_and_a_key_goes_before_it() {
    let now = SystemTime::now();
    let tenants = Tenants::new(vec![
        tenant("a", &[("a-key", None)]),
        tenant("b", &[("b-key", None)]),
    ]);
    let whose = |shown: Shown<'_>, name, without_key| {
        let found = tenants.identify(shown.or_certificate(name), without_key, now);
        found.map(|tenant| tenant.id.to_string()).map_err(drop)
    };
    let name = Some("b of the north");
    assert_eq!(whose(Shown::Nothing, name, false), Ok("b".into()));
    assert_eq!(whose(Shown::Key(b"a-key"), name, false), Ok("a".into()));
    assert_eq!(whose(Shown::Key(b"wrong"), name, true), Err(()));
    assert_eq!(whose(Shown::Unreadable, name, true), Err(()));
    for other in [None, Some("b"), Some("B of the north"), Some("")] {
        assert_eq!(whose(Shown::Nothing, other, false), Err(()), "{other:?}");
        assert_eq!(whose(Shown::Nothing, other, true), Ok(String::new()));
    }
}

#[test]
fn keys_are_found_in_headers_and_subprotocols_and_nowhere_else() {
    let key_of = |shown: Shown<'_>| match shown {
        Shown::Nothing | Shown::Certificate(_) => "nothing".to_owned(),
        Shown::Key(key) => String::from_utf8_lossy(key).into_owned(),
        Shown::Unreadable => "unreadable".to_owned(),
    };
    let auth = "authorization";
    let protocol = "sec-websocket-protocol";
    for (pairs, grpc, socket) in [
        (&[][..], "nothing", "nothing"),
        (&[(auth, "Bearer k")], "k", "k"),
        (&[(auth, "bearer k")], "k", "k"),
        (&[(auth, "Basic k")], "unreadable", "unreadable"),
        (&[(auth, "k")], "unreadable", "unreadable"),
        (&[(auth, "é")], "unreadable", "unreadable"),
        (
            &[(auth, "Bearer a"), (auth, "Bearer b")],
            "unreadable",
            "unreadable",
        ),
        (&[(protocol, "lipsync.v1, lipsync-key.k")], "nothing", "k"),
        (
            &[(protocol, "lipsync-key.a,lipsync-key.b")],
            "nothing",
            "unreadable",
        ),
        // A proxy's own; the page's key is in the subprotocol.
        (
            &[(auth, "Basic x"), (protocol, "lipsync-key.k")],
            "unreadable",
            "k",
        ),
    ] {
        let headers = headers(pairs);
        assert_eq!(key_of(Shown::in_headers(&headers)), grpc, "{pairs:?}");
        assert_eq!(key_of(Shown::in_upgrade(&headers)), socket, "{pairs:?}");
    }
    assert!(wants_subprotocol(&headers(&[(protocol, "a, lipsync.v1")])));
    assert!(!wants_subprotocol(&headers(&[(protocol, "lipsync-key.k")])));
}

#[test]
fn what_is_taken_back_leaves_access_as_it_is() {
    let limited = |mut of: Tenant, n, is_admin| {
        of.rights = Arc::new(Rights {
            is_admin,
            quotas: Quotas {
                max_sessions: Some(n),
                ..Quotas::default()
            },
            ..Rights::clone(&of.rights)
        });
        of
    };
    let old = Tenants::new(vec![
        limited(tenant("a", &[("old", None)]), 9, true),
        tenant("gone", &[("gone", None)]),
    ]);
    let newer = Tenants::new(vec![
        limited(tenant("a", &[("new", None)]), 0, false),
        tenant("b", &[("b", None)]),
    ]);
    let kept = old.with_access_of(&newer);
    let find = |key: &str| {
        let shown = Shown::Key(key.as_bytes());
        kept.identify(shown, false, SystemTime::UNIX_EPOCH)
    };
    assert!(find("old").is_err() && find("gone").is_err());
    let a = find("new").unwrap();
    assert_eq!(a.rights.quotas.max_sessions, Some(9));
    assert!(!a.rights.is_admin);
    assert_eq!(find("b").unwrap().id.as_str(), "b");
    // Nobody gets in by it, either.
    let open = Tenants::default();
    assert!(open.with_access_of(&newer) == newer);
    assert!(newer.with_access_of(&open) == newer);
}

#[test]
fn nothing_that_is_shown_holds_a_key() {
    let tenants = Tenants::new(vec![tenant("a", &[("k", None)])]);
    let digest = Digest::of(b"k").unwrap().hex();
    let shown = format!("{tenants:?} {:?}", tenants.list());
    assert!(!shown.contains(&digest), "{shown}");
}
