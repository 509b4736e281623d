use super::*;
use proptest::prelude::*;

const DEFAULT: PathPolicy = PathPolicy {
    dot_segments: DotSegments::Resolve,
    double_slash: DoubleSlash::Merge,
    encoded_slash: EncodedSlash::Reject,
};
const KEEP: PathPolicy = PathPolicy {
    dot_segments: DotSegments::Keep,
    double_slash: DoubleSlash::Keep,
    encoded_slash: EncodedSlash::Keep,
};

fn with(policy: &PathPolicy, path: &str) -> Result<String, &'static str> {
    let mut out = Vec::new();
    let normal = normalise(path.as_bytes(), policy, &mut out).map_err(|reject| {
        assert_eq!(reject.token, Token::BadRequest);
        reject.detail
    })?;
    Ok(String::from_utf8(normal.of(path.as_bytes(), &out).to_vec()).unwrap())
}

fn table(policy: &PathPolicy, rows: &[(&str, &str)]) {
    for (path, normal) in rows {
        assert_eq!(with(policy, path).as_deref(), Ok(*normal), "{path}");
    }
}

#[test]
fn a_plain_path_is_not_copied() {
    let mut out = Vec::new();
    for path in [
        "/",
        "/a",
        "/a/b.c/",
        "/a;v=1/@x:y",
        "/a..b/c.",
        "/.well-known/acme",
        "/...",
        "/%20",
    ] {
        assert_eq!(
            normalise(path.as_bytes(), &DEFAULT, &mut out),
            Ok(Normal::AsIs),
            "{path}"
        );
    }
    assert_eq!(normalise(b"/plain", &DEFAULT, &mut Vec::new()), Ok(Normal::AsIs));
}

#[test]
fn escapes_have_one_spelling() {
    table(
        &DEFAULT,
        &[
            ("/%61%7e%2D%5f", "/a~-_"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/%3f%23", "/%3F%23"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/%25%32%65", "/%252e"),
            ("", "/"),
        ],
    );
}

#[test]
fn broken_escapes_and_nul_are_refused() {
    for bad in [
        "/%", "/%4", "/%zz", "/a%g0", "/%00", "/a%00b", "/%+1", "a", "*", "/a?b", "/a b", "/é", "/\\",
    ] {
        assert!(with(&DEFAULT, bad).is_err(), "{bad}");
        assert!(with(&KEEP, bad).is_err(), "{bad}");
    }
}

#[test]
fn dot_segments_resolve_and_stop_at_the_root() {
    table(
        &DEFAULT,
        &[
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/.", "/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/..b/.c", "/a/..b/.c"),
            ("/a//../b", "/b"),
            ("/a/b/../../../c", "/c"),
        ],
    );
}

#[test]
fn dot_segments_can_be_refused_or_kept() {
    let reject = PathPolicy {
        dot_segments: DotSegments::Reject,
        ..DEFAULT
    };
    for bad in ["/.", "/..", "/a/../b", "/a/%2e%2e/b", "/a/%2e"] {
        assert!(with(&reject, bad).is_err(), "{bad}");
    }
    table(&reject, &[("/.a/..b", "/.a/..b")]);
    table(&KEEP, &[("/a/%2e%2e/b", "/a/../b"), ("/./..", "/./..")]);
}

#[test]
fn double_slashes_merge_or_are_refused_or_kept() {
    table(
        &DEFAULT,
        &[("//a///b//", "/a/b/"), ("//", "/"), ("///a/..//", "/")],
    );
    let reject = PathPolicy {
        double_slash: DoubleSlash::Reject,
        ..DEFAULT
    };
    assert!(with(&reject, "/a//b").is_err());
    assert!(with(&reject, "/a/.././/b").is_err());
    table(&reject, &[("/a/./b/", "/a/b/")]);
    let keep = PathPolicy {
        double_slash: DoubleSlash::Keep,
        ..DEFAULT
    };
    table(
        &keep,
        &[
            ("//a//b//", "//a//b//"),
            ("/a//../b", "/a/b"),
            ("//../a", "/a"),
            ("/a/..//b", "//b"),
        ],
    );
}

#[test]
fn encoded_slashes_are_refused_kept_or_decoded() {
    for bad in ["/a%2fb", "/a%2Fb", "/a%5cb", "/..%2fb"] {
        assert!(with(&DEFAULT, bad).is_err(), "{bad}");
    }
    table(&KEEP, &[("/a%2fb%5cc", "/a%2Fb%5Cc")]);
    let decode = PathPolicy {
        encoded_slash: EncodedSlash::Decode,
        ..DEFAULT
    };
    table(
        &decode,
        &[
            ("/a%2fb", "/a/b"),
            ("/a%2f..%5c..%2fb", "/b"),
            ("/a%2f/b", "/a/b"),
            ("/%2f", "/"),
        ],
    );
}

#[test]
fn prefixes_hold_by_segment() {
    for (path, prefix, holds) in [
        ("/ws", "/ws", true),
        ("/ws/", "/ws", true),
        ("/ws/x", "/ws", true),
        ("/wsx", "/ws", false),
        ("/w", "/ws", false),
        ("/ws", "/ws/", false),
        ("/ws/x", "/ws/", true),
        ("/x", "/", true),
        ("/", "/", true),
    ] {
        assert_eq!(
            under_prefix(path.as_bytes(), prefix.as_bytes()),
            holds,
            "{path} {prefix}"
        );
    }
}

#[test]
fn paths_from_configuration_may_be_written_as_people_write_them() {
    let ok = |text| String::from_utf8(from_config(text).unwrap()).unwrap();
    assert_eq!(ok("/café"), "/caf%C3%A9");
    assert_eq!(ok("/two words"), "/two%20words");
    assert_eq!(ok("/%7euser"), "/~user");
    assert!(from_config("/a?b").is_err());
    assert!(from_config("/%zz").is_err());
    assert!(from_config("a").is_err());
    assert!(from_config("").is_err());
}

/// The same rules in the plainest words: decode, split, push and pop.
fn oracle(path: &str, policy: &PathPolicy) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = path.strip_prefix('/')?;
    while let Some(c) = rest.chars().next() {
        rest = rest.split_at(1).1;
        if c != '%' {
            decoded.push(c);
            continue;
        }
        let value = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
        rest = rest.split_at(2).1;
        let slash = value == b'/' || value == b'\\';
        match policy.encoded_slash {
            _ if value == 0 => return None,
            EncodedSlash::Reject if slash => return None,
            EncodedSlash::Decode if slash => decoded.push('/'),
            _ if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => decoded.push(char::from(value)),
            _ => decoded.push_str(&format!("%{value:02X}")),
        }
    }
    let segments: Vec<&str> = decoded.split('/').collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for (i, &segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        open = false;
        match segment {
            "" if !last && policy.double_slash == DoubleSlash::Reject => return None,
            "" if !last && policy.double_slash == DoubleSlash::Merge => {}
            "." | ".." if policy.dot_segments == DotSegments::Reject => return None,
            "." if policy.dot_segments == DotSegments::Resolve => open = true,
            ".." if policy.dot_segments == DotSegments::Resolve => {
                kept.pop();
                open = true;
            }
            segment => kept.push(segment),
        }
    }
    let end = if open && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

fn policies() -> impl Strategy<Value = PathPolicy> {
    use proptest::sample::select;
    (
        select(vec![DotSegments::Resolve, DotSegments::Reject, DotSegments::Keep]),
        select(vec![DoubleSlash::Merge, DoubleSlash::Reject, DoubleSlash::Keep]),
        select(vec![
            EncodedSlash::Reject,
            EncodedSlash::Keep,
            EncodedSlash::Decode,
        ]),
    )
        .prop_map(|(dot_segments, double_slash, encoded_slash)| PathPolicy {
            dot_segments,
            double_slash,
            encoded_slash,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_normal_form_is_what_the_plain_rules_say(
        path in "/([ab./]|%2e|%2F|%5c|%61|%3f|%zz){0,10}", policy in policies(),
    ) {
        prop_assert_eq!(with(&policy, &path).ok(), oracle(&path, &policy));
    }

    #[test]
    fn normalising_twice_changes_nothing_more(path in "/([ab./%]|%2e|%2F|%5c|%25|2e){0,10}", policy in policies()) {
        if let Ok(once) = with(&policy, &path) {
            let mut out = Vec::new();
            prop_assert_eq!(normalise(once.as_bytes(), &policy, &mut out), Ok(Normal::AsIs), "{}", once);
            if policy == DEFAULT {
                prop_assert!(!has_dot_segments(once.as_bytes()) && !once.contains("//"));
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(path in proptest::collection::vec(any::<u8>(), 0..40), policy in policies()) {
        let _result = normalise(&path, &policy, &mut Vec::new()).is_ok();
    }
}
