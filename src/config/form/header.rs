//! Names and values of headers, methods, and other words of HTTP.

use super::Complaint;
use crate::message::names::Name;
use crate::message::template::Template;

/// Whether this is a token (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Checks the name of a cookie (RFC 6265 section 4.1.1).
pub fn cookie_name(text: &str) -> Result<String, Complaint> {
    if text.len() > 256 {
        return Err(Complaint::new("it is longer than 256 bytes"));
    }
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err(Complaint::new("it is not the name of a cookie"))
    }
}

/// Checks the name of a header.
pub fn name(text: &str) -> Result<String, Complaint> {
    if text.len() > 256 {
        return Err(Complaint::new("it is longer than 256 bytes"));
    }
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err(Complaint::new("it is not the name of a header"))
    }
}

/// Checks the name of a header that edits may touch: framing and the connection are the gateway's own, and two
/// hands on them are how requests get smuggled.
pub fn edited_name(text: &str) -> Result<String, Complaint> {
    let name = name(text)?;
    match Name::recognise(text.as_bytes()) {
        Name::Connection
        | Name::ContentLength
        | Name::Http2Settings
        | Name::KeepAlive
        | Name::ProxyConnection
        | Name::Te
        | Name::Trailer
        | Name::TransferEncoding
        | Name::Upgrade => Err(Complaint::new(
            "this header belongs to the connection and is written by the gateway",
        )),
        Name::Host => {
            Err(Complaint::new("the host has a key of its own").hint("write `host = \"…\"` in the route"))
        }
        _ => Ok(name),
    }
}

/// Checks the value of a header.
pub fn value(text: &str) -> Result<String, Complaint> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(Complaint::new(format!("the value of a header has no {c:?}"))),
        None if text.trim() != text => Err(Complaint::new("it begins or ends with a blank")),
        None => Ok(text.to_owned()),
    }
}

/// Checks the template of a header's value or of a URL.
pub fn template(text: &str) -> Result<String, Complaint> {
    let text = value(text)?;
    Template::parse(&text).map_err(|error| Complaint::new(error.to_string()))?;
    Ok(text)
}

/// Checks the template of a body, which may have lines.
pub fn body(text: &str) -> Result<String, Complaint> {
    Template::parse_body(text).map_err(|error| Complaint::new(error.to_string()))?;
    Ok(text.to_owned())
}

/// Checks a method; they are case-sensitive.
pub fn method(text: &str) -> Result<String, Complaint> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    if !is_token(text) {
        return Err(Complaint::new("it is not a method"));
    }
    match KNOWN
        .iter()
        .find(|known| known.eq_ignore_ascii_case(text) && **known != text)
    {
        Some(known) => Err(Complaint::new("methods are case-sensitive").instead(known)),
        None => Ok(text.to_owned()),
    }
}

/// Checks the name of a protocol that `Upgrade` may switch to, and gives it in lower case.
pub fn upgrade(text: &str) -> Result<String, Complaint> {
    let lower = text.to_ascii_lowercase();
    let (name, version) = lower
        .split_once('/')
        .map_or((lower.as_str(), None), |(n, v)| (n, Some(v)));
    if !is_token(name) || version.is_some_and(|version| !is_token(version)) {
        return Err(Complaint::new("it is not the name of a protocol"));
    }
    if name == "h2c" {
        return Err(Complaint::new(
            "h2c by Upgrade lets requests around every rule and is always refused",
        ));
    }
    Ok(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_their_hands_off_framing() {
        for text in [
            "Content-Length",
            "transfer-encoding",
            "CONNECTION",
            "Host",
            "a b",
            "",
            "x\r\ny",
        ] {
            assert!(edited_name(text).is_err(), "{text:?}");
        }
        assert_eq!(edited_name("X-Frame-Options"), Ok("X-Frame-Options".into()));
        assert_eq!(
            name("content-length"),
            Ok("content-length".into()),
            "a route may ask for it"
        );
    }

    #[test]
    fn values_cannot_split_a_response() {
        assert!(value("a\r\nSet-Cookie: b").is_err());
        assert!(value("a\0").is_err() && value(" a").is_err());
        assert_eq!(value("ünïcode\tok"), Ok("ünïcode\tok".into()));
    }

    #[test]
    fn templates_are_held_to_the_variables_there_are() {
        assert!(template("${client_ip} $$5").is_ok());
        assert!(template("${client_pi}").unwrap_err().reason.contains("client_ip"));
        assert!(template("$host").is_err() && template("a\nb").is_err());
        assert!(body("a\n${host}").is_ok() && body("${").is_err());
    }

    #[test]
    fn methods_keep_their_case() {
        assert_eq!(method("GET"), Ok("GET".into()));
        assert_eq!(method("PURGE"), Ok("PURGE".into()));
        assert_eq!(method("get").unwrap_err().hint.as_deref(), Some("write \"GET\""));
        assert!(method("G ET").is_err() && method("").is_err());
    }

    #[test]
    fn upgrades_are_lower_case_and_never_h2c() {
        assert_eq!(upgrade("Custom/1.0"), Ok("custom/1.0".into()));
        assert!(upgrade("H2C").is_err() && upgrade("a b").is_err() && upgrade("").is_err());
    }
}
