//! Patterns that requests are matched against.

use super::Complaint;
use super::header;
use crate::config::model::{HashKey, PathPattern, TextPattern, ValuePattern};
use crate::message::bytes::is_target;

/// Bytes that one compiled regular expression may take.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Checks that a regular expression compiles within its limit, and gives it back. It will match bytes, and its
/// classes are those of ASCII, as hosts and paths are.
pub fn regex(text: &str) -> Result<String, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("the regular expression is empty"));
    }
    match regex::bytes::RegexBuilder::new(text)
        .unicode(false)
        .size_limit(REGEX_SIZE_LIMIT)
        .build()
    {
        Ok(_) => Ok(text.to_owned()),
        Err(regex::Error::CompiledTooBig(_)) => Err(Complaint::new(
            "the regular expression is too large when compiled",
        )),
        Err(error) => {
            // The crate draws a picture over several lines; its last line says what is wrong.
            let told = error.to_string();
            let last = told.lines().last().unwrap_or_default().trim();
            let reason = last.strip_prefix("error: ").unwrap_or(last);
            Err(Complaint::new(format!(
                "the regular expression does not compile: {reason}"
            )))
        }
    }
}

/// Reads `/prefix`, `=/exact`, `~^/regex$`.
pub fn path(text: &str) -> Result<PathPattern, Complaint> {
    if let Some(regex_text) = text.strip_prefix('~') {
        return regex(regex_text).map(PathPattern::Regex);
    }
    let (exact, path) = text.strip_prefix('=').map_or((false, text), |path| (true, path));
    plain_path(path)?;
    Ok(if exact {
        PathPattern::Exact(path.to_owned())
    } else {
        PathPattern::Prefix(path.to_owned())
    })
}

/// Checks a path that is no pattern.
pub fn plain_path(text: &str) -> Result<(), Complaint> {
    if !text.starts_with('/') {
        let instead = if text.starts_with('^') {
            format!("~{text}")
        } else {
            format!("/{text}")
        };
        return Err(Complaint::new("a path begins with /").instead(&instead));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(Complaint::new(format!("a path has no {c:?}")).hint("match parameters with `query`"));
    }
    if let Some(c) = text.chars().find(|c| c.is_control() || *c == ' ') {
        return Err(Complaint::new(format!("a path has no {c:?}")));
    }
    Ok(())
}

/// Checks the path and query of a request.
pub fn request(text: &str) -> Result<(), Complaint> {
    if !text.starts_with('/') {
        return Err(Complaint::new("a path begins with /").instead(&format!("/{text}")));
    }
    if is_target(text.as_bytes()) {
        Ok(())
    } else {
        Err(Complaint::new(
            "it has characters that must be escaped by percent signs",
        ))
    }
}

/// Reads `text`, `~regex`.
pub fn text(text: &str) -> Result<TextPattern, Complaint> {
    match text.strip_prefix('~') {
        Some(regex_text) => regex(regex_text).map(TextPattern::Regex),
        None if text.is_empty() => Err(Complaint::new("it is empty: every text has that")),
        None => Ok(TextPattern::Contains(text.to_owned())),
    }
}

/// Reads `value`, `~regex`, `*`, `!`.
pub fn value(text: &str) -> Result<ValuePattern, Complaint> {
    match text {
        "*" => return Ok(ValuePattern::Present),
        "!" => return Ok(ValuePattern::Absent),
        _ => {}
    }
    match text.strip_prefix('~') {
        Some(regex_text) => regex(regex_text).map(ValuePattern::Regex),
        None => header::value(text).map(ValuePattern::Exact),
    }
}

/// Checks the Path of a cookie (RFC 6265 section 4.1.1).
pub fn cookie_path(text: &str) -> Result<String, Complaint> {
    plain_path(text)?;
    match text.chars().find(|c| *c == ';' || !c.is_ascii()) {
        Some(c) => Err(Complaint::new(format!("the path of a cookie has no {c:?}"))),
        None => Ok(text.to_owned()),
    }
}

/// Reads `client_ip`, `uri`, `header:NAME`, `cookie:NAME`, `query:NAME`.
pub fn hash_key(text: &str) -> Result<HashKey, Complaint> {
    match text.split_once(':') {
        None if text == "client_ip" => Ok(HashKey::ClientIp),
        None if text == "uri" => Ok(HashKey::Uri),
        Some(("header", name)) => header::name(name).map(HashKey::Header),
        Some(("cookie", name)) if header::is_token(name) => Ok(HashKey::Cookie(name.to_owned())),
        Some(("cookie", _)) => Err(Complaint::new("that is no name of a cookie")),
        Some(("query", "")) => Err(Complaint::new("the parameter has no name")),
        Some(("query", name)) => super::word(name).map(HashKey::Query),
        _ => {
            let mut complaint = Complaint::new("it is none of these");
            complaint.hint = match text {
                "ip" | "source" | "remote_addr" | "$remote_addr" => Some("client_ip"),
                "url" | "path" | "$request_uri" => Some("uri"),
                _ => None,
            }
            .map(|ours| format!("write \"{ours}\""));
            Err(complaint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_prefix_exact_or_regex() {
        assert_eq!(path("/ws"), Ok(PathPattern::Prefix("/ws".into())));
        assert_eq!(path("=/ws"), Ok(PathPattern::Exact("/ws".into())));
        assert_eq!(path("~^/ws$"), Ok(PathPattern::Regex("^/ws$".into())));
        for text in ["", "ws", "=ws", "~", "~[", "/a?b", "/a#b", "/a b", "/a\n"] {
            assert!(path(text).is_err(), "{text:?}");
        }
        assert_eq!(path("^/ws").unwrap_err().hint.as_deref(), Some("write \"~^/ws\""));
    }

    #[test]
    fn hash_keys_name_a_part_of_the_request() {
        assert_eq!(hash_key("client_ip"), Ok(HashKey::ClientIp));
        assert_eq!(hash_key("uri"), Ok(HashKey::Uri));
        assert_eq!(hash_key("header:X-User"), Ok(HashKey::Header("X-User".into())));
        assert_eq!(hash_key("cookie:sid"), Ok(HashKey::Cookie("sid".into())));
        assert_eq!(hash_key("query:a:b"), Ok(HashKey::Query("a:b".into())));
        for text in [
            "",
            "header",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a;b",
            "query:",
            "body:x",
            "ip",
        ] {
            assert!(hash_key(text).is_err(), "{text:?}");
        }
        assert_eq!(
            hash_key("ip").unwrap_err().hint.as_deref(),
            Some("write \"client_ip\"")
        );
    }

    #[test]
    fn regexes_are_held_to_a_size() {
        let complaint = regex(r"\w{1000}{1000}").unwrap_err();
        assert!(complaint.reason.contains("too large"), "{complaint:?}");
        let complaint = regex("a(b").unwrap_err();
        assert!(complaint.reason.ends_with("unclosed group"), "{complaint:?}");
    }

    #[test]
    fn requests_are_paths_with_or_without_a_query() {
        assert!(request("/health?deep=1&x=%20").is_ok());
        for text in ["", "health", "/a b", "/a\r\nX: y", "/é", "/a#b"] {
            assert!(request(text).is_err(), "{text:?}");
        }
        assert_eq!(
            request("health").unwrap_err().hint.as_deref(),
            Some("write \"/health\"")
        );
    }

    #[test]
    fn texts_are_looked_for_or_matched() {
        assert_eq!(text("ok"), Ok(TextPattern::Contains("ok".into())));
        assert_eq!(text("~^ok$"), Ok(TextPattern::Regex("^ok$".into())));
        assert!(text("").is_err() && text("~").is_err() && text("~(").is_err());
    }

    #[test]
    fn values_are_exact_regex_present_or_absent() {
        assert_eq!(value("*"), Ok(ValuePattern::Present));
        assert_eq!(value("!"), Ok(ValuePattern::Absent));
        assert_eq!(value("~^v"), Ok(ValuePattern::Regex("^v".into())));
        assert_eq!(value(""), Ok(ValuePattern::Exact(String::new())));
        assert!(value("a\nb").is_err());
    }
}
