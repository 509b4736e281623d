//! Forms of single values.

use super::*;
use crate::config::tree::Value;

#[allow(clippy::needless_pass_by_value, reason = "tests read better")]
fn read(form: Form, value: Value) -> Result<Scalar, Complaint> {
    form.read(&value, Path::new("/etc"))
}

fn text(form: Form, text: &str) -> Result<Scalar, Complaint> {
    read(form, Value::Text(text.to_owned()))
}

#[test]
fn every_form_says_what_it_accepts_and_refuses_a_table() {
    let forms = [
        Form::Bool,
        Form::Integer { min: 1, max: 2 },
        Form::Workers,
        Form::Ratio,
        Form::Factor,
        Form::HashKey,
        Form::Duration { zero: true },
        Form::Duration { zero: false },
        Form::Size { min: 0, max: 9 },
        Form::Size { min: 1, max: 9 },
        Form::Choice(&["a", "b"]),
        Form::Grant,
        Form::Body,
        Form::Word,
        Form::Name,
        Form::Path,
        Form::Glob,
        Form::Listen,
        Form::Endpoint,
        Form::Cidr,
        Form::Host,
        Form::PathPattern,
        Form::Prefix,
        Form::Method,
        Form::HeaderName,
        Form::HeaderValue,
        Form::ValuePattern,
        Form::HostHeader,
        Form::Authority,
        Form::Request,
        Form::PlainValue,
        Form::StatusSet,
        Form::TextPattern,
        Form::Mode,
        Form::AccessFormat,
        Form::Regex,
        Form::Target,
        Form::Upgrade,
        Form::Origin,
        Form::Secret,
    ];
    for form in forms {
        assert!(!form.accepts().is_empty(), "{form:?}");
        assert!(read(form, Value::Table(Default::default())).is_err(), "{form:?}");
        assert!(read(form, Value::Array(Vec::new())).is_err(), "{form:?}");
    }
}

#[test]
fn numbers_are_held_to_their_range() {
    let form = Form::Integer { min: 1, max: 10 };
    assert_eq!(read(form, Value::Integer(10)), Ok(Scalar::Integer(10)));
    for n in [0, 11, i128::MAX, i128::MIN] {
        assert!(read(form, Value::Integer(n)).is_err(), "{n}");
    }
    assert!(read(form, Value::Float(5.0)).is_err());
    assert!(read(Form::Ratio, Value::Float(1.1)).is_err() && read(Form::Ratio, Value::Integer(2)).is_err());
    assert_eq!(read(Form::Ratio, Value::Integer(1)), Ok(Scalar::Ratio(1.0)));
    for n in [0.0, 1.0, 1.25, 1000.0] {
        assert_eq!(read(Form::Factor, Value::Float(n)), Ok(Scalar::Ratio(n)));
    }
    for n in [-1.0, 0.5, 1000.1, f64::NAN, f64::INFINITY] {
        assert!(read(Form::Factor, Value::Float(n)).is_err(), "{n}");
    }
    assert_eq!(read(Form::Factor, Value::Integer(2)), Ok(Scalar::Ratio(2.0)));
    assert!(read(Form::Workers, Value::Integer(0)).is_err() && text(Form::Workers, "many").is_err());
}

#[test]
fn zero_needs_no_unit_and_other_numbers_do() {
    let form = Form::Duration { zero: true };
    assert!(read(form, Value::Integer(0)).is_ok());
    assert_eq!(
        read(form, Value::Integer(30)).unwrap_err().hint.as_deref(),
        Some("write \"30s\"")
    );
    assert!(text(Form::Duration { zero: false }, "0s").is_err());
}

#[test]
fn sizes_are_held_to_their_range() {
    let form = Form::Size {
        min: 256,
        max: 1 << 20,
    };
    assert_eq!(text(form, "64KiB"), Ok(Scalar::Size(65_536)));
    assert_eq!(read(form, Value::Integer(4096)), Ok(Scalar::Size(4096)));
    for n in [-1, 255, (1 << 20) + 1] {
        assert!(read(form, Value::Integer(n)).is_err(), "{n}");
    }
    assert!(text(form, "1GiB").is_err());
}

#[test]
fn words_of_a_choice_are_suggested() {
    let form = Form::Choice(&["round_robin", "weighted"]);
    assert_eq!(text(form, "weighted"), Ok(Scalar::Choice("weighted")));
    assert_eq!(
        text(form, "wieghted").unwrap_err().hint.as_deref(),
        Some("did you mean `weighted`?")
    );
    assert_eq!(form.accepts(), "\"round_robin\" or \"weighted\"");
}

#[test]
fn relative_paths_start_from_their_file_and_a_dash_stays() {
    assert_eq!(text(Form::Path, "x/y"), Ok(Scalar::Path("/etc/x/y".into())));
    assert_eq!(text(Form::Path, "/x"), Ok(Scalar::Path("/x".into())));
    assert_eq!(text(Form::Path, "-"), Ok(Scalar::Path("-".into())));
    assert!(text(Form::Path, "").is_err() && text(Form::Path, "a\0b").is_err());
}

#[test]
fn permission_bits_are_octal() {
    assert_eq!(text(Form::Mode, "0660"), Ok(Scalar::Mode(0o660)));
    assert_eq!(text(Form::Mode, "0o600"), Ok(Scalar::Mode(0o600)));
    assert_eq!(read(Form::Mode, Value::Integer(0o660)), Ok(Scalar::Mode(0o660)));
    for n in [-1, 660, 0o1000] {
        assert!(read(Form::Mode, Value::Integer(n)).is_err(), "{n}");
    }
    assert!(text(Form::Mode, "0888").is_err() && text(Form::Mode, "").is_err());
}

#[test]
fn a_log_format_of_ones_own_has_variables() {
    assert_eq!(
        text(Form::AccessFormat, "json"),
        Ok(Scalar::AccessFormat(AccessFormat::Json))
    );
    let own = AccessFormat::Template("$status".into());
    assert_eq!(text(Form::AccessFormat, "$status"), Ok(Scalar::AccessFormat(own)));
    assert!(
        text(Form::AccessFormat, "combind")
            .unwrap_err()
            .hint
            .unwrap()
            .contains("combined")
    );
}

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "web-1", "a.b_c", &"n".repeat(64)] {
        assert!(name(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "ä", "a/b", &"n".repeat(65)] {
        assert!(name(bad).is_err(), "{bad}");
    }
}
