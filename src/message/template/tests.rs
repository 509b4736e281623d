use super::*;
use proptest::prelude::*;

/// Every variable has this value.
struct Same<'a>(&'a [u8]);

impl Variables for Same<'_> {
    fn write(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

fn render(text: &str, value: &[u8]) -> Vec<u8> {
    let mut out = b"> ".to_vec();
    Template::parse(text).unwrap().render(&Same(value), &mut out);
    out.split_off(2)
}

#[test]
fn text_without_variables_is_constant() {
    assert_eq!(Template::parse("").unwrap().constant(), Some(&b""[..]));
    assert_eq!(Template::parse("a b").unwrap().constant(), Some(&b"a b"[..]));
    assert_eq!(
        Template::parse("$$5 $$$$ {x}").unwrap().constant(),
        Some(&b"$5 $$ {x}"[..])
    );
    assert_eq!(Template::parse("a${host}").unwrap().constant(), None);
}

#[test]
fn variables_stand_between_text() {
    assert_eq!(render("a${host}b${1}c$$${path}", b"<v>"), b"a<v>b<v>c$<v>");
    assert_eq!(render("${uri}${query}", b""), b"");
}

#[test]
fn every_documented_name_is_known() {
    let one = |text: &str| Template::parse(text).unwrap().variables().next().unwrap().clone();
    for (name, variable) in PLAIN {
        assert_eq!(one(&format!("${{{name}}}")), variable);
    }
    assert_eq!(one("${header.X-User}"), Variable::Header("x-user".into()));
    assert_eq!(one("${cookie.Sid}"), Variable::Cookie("Sid".into()));
    assert_eq!(one("${arg.q}"), Variable::Arg("q".into()));
    assert_eq!(one("${2}"), Variable::PathGroup(Group::Number(2)));
    assert_eq!(one("${path.2}"), Variable::PathGroup(Group::Number(2)));
    assert_eq!(one("${path.id}"), Variable::PathGroup(Group::Name("id".into())));
    assert_eq!(
        one("${host.tenant}"),
        Variable::HostGroup(Group::Name("tenant".into()))
    );
}

#[test]
fn mistakes_are_named_with_a_suggestion() {
    let error = |text: &str| Template::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("${clint_ip}"),
        "`${clint_ip}` is not a variable; did you mean `${client_ip}`?"
    );
    assert_eq!(
        error("${haeder.x}"),
        "`${haeder.x}` is not a variable; did you mean `${header.x}`?"
    );
    assert!(error("${zzzzzz}").ends_with("see the list of variables in the reference"));
    for bad in ["${}", "${0}", "${100}", "${header.}", "${ host}"] {
        assert!(
            matches!(Template::parse(bad), Err(TemplateError::Unknown { .. })),
            "{bad}"
        );
    }
    assert_eq!(error("a${host"), "`${host` is not closed by `}`");
    for bad in ["$host", "a$", "$$$", "5 $ "] {
        assert_eq!(Template::parse(bad), Err(TemplateError::LoneDollar), "{bad}");
    }
    assert_eq!(
        error("a\r\nb"),
        "a value cannot contain the control character 0x0d"
    );
}

#[test]
fn values_cannot_end_a_line() {
    assert_eq!(
        render("${host}", b"a\r\nSet-Cookie: x\0\x7f\tb\xc3\xa9"),
        b"aSet-Cookie: x\tb\xc3\xa9"
    );
}

#[test]
fn values_are_encoded_for_uris_and_targets() {
    let as_ = |escaping, value: &[u8]| {
        let mut out = Vec::new();
        Template::parse("/é?#${host}")
            .unwrap()
            .render_as(escaping, &Same(value), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        as_(Escaping::Uri, b"a b\r\n\xe9\"?x#y%20"),
        "/%C3%A9?#a%20b%E9%22?x#y%20"
    );
    assert_eq!(
        as_(Escaping::Target, b"a b?x#y%2F/"),
        "/%C3%A9?%23a%20b%3Fx%23y%2F/"
    );
}

#[test]
fn output_is_bounded() {
    let long = vec![b'a'; 8192];
    assert_eq!(render(&"${path}".repeat(100), &long).len(), MAX_OUTPUT);
}

proptest! {
    #[test]
    fn no_value_injects_a_header(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let out = render("a ${host} b", &value);
        prop_assert!(!out.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        for escaping in [Escaping::Uri, Escaping::Target] {
            let mut out = Vec::new();
            Template::parse("${host}").unwrap().render_as(escaping, &Same(&value), &mut out);
            prop_assert!(out.iter().all(u8::is_ascii_graphic));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z${}.1é]{0,20}") {
        if let Ok(template) = Template::parse(&text) {
            template.render(&Same(b"v"), &mut Vec::new());
        }
    }

    #[test]
    fn doubling_dollars_makes_any_text_constant(text in "[a-z${}. ]{0,20}") {
        let template = Template::parse(&text.replace('$', "$$")).unwrap();
        prop_assert_eq!(template.constant(), Some(text.as_bytes()));
    }
}
