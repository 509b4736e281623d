//! From the text of a log format to its parts.

use super::escape::Escape;
use super::variables::{Variable, suggestion};
use thiserror::Error;

/// Longest text of a format, in bytes.
pub const MAX_FORMAT: usize = 8 * 1024;

/// What is wrong with a log format, and at which byte.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem} at byte {position} of the log format")]
pub struct FormatError {
    /// Offset in the text, from 0.
    pub position: usize,
    pub problem: FormatProblem,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FormatProblem {
    #[error("unknown variable ${name}{}", did_you_mean(.suggestion.as_deref()))]
    UnknownVariable {
        name: String,
        suggestion: Option<String>,
    },
    #[error("a $ without a variable name")]
    NoName,
    #[error("a ${{ without its }}")]
    Unclosed,
    #[error("a line break or another control character")]
    Control,
    #[error(
        "unknown escape={0}; default and json are possible: anything else would let a request forge lines"
    )]
    UnknownEscape(String),
    #[error("the format is longer than {MAX_FORMAT} bytes")]
    TooLong,
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |s| format!("; did you mean ${s}?"))
}

/// A piece of a format: text as it stands, or a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// Reads a format: nginx's `log_format` text, with an optional `escape=json ` in front.
pub(super) fn compile(text: &str) -> Result<(Escape, Vec<Part>), FormatError> {
    let fail = |position, problem| Err(FormatError { position, problem });
    if text.len() > MAX_FORMAT {
        return fail(MAX_FORMAT, FormatProblem::TooLong);
    }
    let (escape, start) = match text.strip_prefix("escape=") {
        None => (Escape::Default, 0),
        Some(rest) => {
            let word = rest.split(' ').next().unwrap_or_default();
            let escape = match word {
                "default" => Escape::Default,
                "json" => Escape::Json,
                _ => return fail(0, FormatProblem::UnknownEscape(word.to_owned())),
            };
            (escape, ("escape=".len() + word.len() + 1).min(text.len()))
        }
    };
    if let Some(position) = text.bytes().position(|b| b < 0x20 || b == 0x7f) {
        return fail(position, FormatProblem::Control);
    }
    Ok((escape, parts(text, start)?))
}

fn parts(text: &str, start: usize) -> Result<Vec<Part>, FormatError> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut at = start;
    while at < bytes.len() {
        let literal = memchr::memchr(b'$', &bytes[at..]).unwrap_or(bytes.len() - at);
        if literal > 0 {
            parts.push(Part::Text(bytes[at..at + literal].into()));
            at += literal;
            continue;
        }
        let (name, end) = name_at(text, at)?;
        let Some(variable) = Variable::named(name) else {
            let problem = FormatProblem::UnknownVariable {
                name: name.to_owned(),
                suggestion: suggestion(name),
            };
            return Err(FormatError {
                position: at,
                problem,
            });
        };
        parts.push(Part::Variable(variable));
        at = end;
    }
    Ok(parts)
}

/// The name of the variable whose `$` is at `at`, and where the variable ends: `$name` or `${name}`.
fn name_at(text: &str, at: usize) -> Result<(&str, usize), FormatError> {
    let fail = |problem| {
        Err(FormatError {
            position: at,
            problem,
        })
    };
    let braced = text.as_bytes().get(at + 1) == Some(&b'{');
    let start = at + 1 + usize::from(braced);
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let length = text.as_bytes()[start..].iter().take_while(|b| is_name(b)).count();
    let end = start + length;
    if braced && text.as_bytes().get(end) != Some(&b'}') {
        return fail(FormatProblem::Unclosed);
    }
    match text.get(start..end) {
        None | Some("") => fail(FormatProblem::NoName),
        Some(name) => Ok((name, end + usize::from(braced))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::variables::Plain;
    use super::*;

    fn error(text: &str) -> String {
        compile(text).unwrap_err().to_string()
    }

    #[test]
    fn text_and_variables_alternate() {
        let (escape, parts) = compile("a $status${host}b$http_user_agent.").unwrap();
        assert_eq!(escape, Escape::Default);
        assert_eq!(
            parts,
            [
                Part::Text(b"a ".as_slice().into()),
                Part::Variable(Variable::Plain(Plain::Status)),
                Part::Variable(Variable::Plain(Plain::Host)),
                Part::Text(b"b".as_slice().into()),
                Part::Variable(Variable::named("http_user_agent").unwrap()),
                Part::Text(b".".as_slice().into()),
            ]
        );
    }

    #[test]
    fn errors_name_the_place_and_what_was_meant() {
        assert_eq!(
            error("ok $statsu"),
            "unknown variable $statsu; did you mean $status? at byte 3 of the log format"
        );
        assert_eq!(
            error("$sent_http_location"),
            "unknown variable $sent_http_location; did you mean $upstream_http_location? at byte 0 of the log format"
        );
        assert_eq!(
            error("$qwertzuiop"),
            "unknown variable $qwertzuiop at byte 0 of the log format"
        );
        assert_eq!(
            error("a $ b"),
            "a $ without a variable name at byte 2 of the log format"
        );
        assert_eq!(
            error("${}"),
            "a $ without a variable name at byte 0 of the log format"
        );
        assert_eq!(error("${host"), "a ${ without its } at byte 0 of the log format");
        assert!(error("$http_").starts_with("unknown variable $http_;"));
        assert!(error("a\nb").contains("line break"));
        assert!(error("escape=none $host").contains("forge lines"));
        assert!(error(&"x".repeat(MAX_FORMAT + 1)).contains("longer"));
    }

    #[test]
    fn the_escape_stands_in_front() {
        let (escape, parts) = compile("escape=json {\"s\":$status}").unwrap();
        assert_eq!(escape, Escape::Json);
        assert_eq!(parts[0], Part::Text(b"{\"s\":".as_slice().into()));
        assert_eq!(compile("escape=json").unwrap(), (Escape::Json, vec![]));
    }

    #[test]
    fn any_text_is_compiled_or_refused() {
        proptest::proptest!(|(text: String)| { let _either = compile(&text); });
        proptest::proptest!(|(text in "[${}a-z_=é ]{0,40}")| { let _either = compile(&text); });
    }
}
