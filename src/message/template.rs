//! Values with variables: header edits, redirect targets, rewritten paths.
//!
//! | written | stands for |
//! |---|---|
//! | `${client_ip}` | the client's address as resolved through trusted proxies |
//! | `${request_id}` | the request id |
//! | `${host}` | the normal form of the host, without port |
//! | `${path}`, `${query}`, `${uri}` | normal path; query as received, without `?`; both together |
//! | `${method}`, `${scheme}` | as received; `http` or `https` |
//! | `${listener}`, `${route}`, `${upstream}` | their names; empty when not known yet |
//! | `${header.NAME}`, `${cookie.NAME}`, `${arg.NAME}` | first value in the request, as received |
//! | `${1}` … `${99}`, `${path.1}`, `${path.NAME}` | a group of the regex that matched the path |
//! | `${host.1}`, `${host.NAME}` | a group of the regex that matched the host |
//! | `$$` | a dollar sign |
//!
//! What is missing is empty. Names are checked when the template is parsed, never while serving.

use super::bytes::is_target_byte;
use super::path::push_escape;
use std::fmt;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Most bytes that the variables of one template put in together: they carry client bytes, and a template may repeat
/// them. Literal text is the operator's and is never cut.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// A group of a regex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    Number(u8),
    Name(Box<str>),
}

/// What a template asks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    ClientIp,
    RequestId,
    Host,
    Path,
    Query,
    Uri,
    Method,
    Scheme,
    Listener,
    Route,
    Upstream,
    Header(Box<str>),
    Cookie(Box<str>),
    Arg(Box<str>),
    PathGroup(Group),
    HostGroup(Group),
}

/// Names without a dot, and what they stand for.
const PLAIN: [(&str, Variable); 11] = [
    ("client_ip", Variable::ClientIp),
    ("request_id", Variable::RequestId),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("uri", Variable::Uri),
    ("method", Variable::Method),
    ("scheme", Variable::Scheme),
    ("listener", Variable::Listener),
    ("route", Variable::Route),
    ("upstream", Variable::Upstream),
];
/// First parts of names with a dot.
const FAMILIES: [&str; 5] = ["header", "cookie", "arg", "path", "host"];

/// Where the values come from.
pub trait Variables {
    /// Appends the value; nothing when there is none. The template cleans up what is written.
    fn write(&self, variable: &Variable, out: &mut Vec<u8>);
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("`${{{name}}}` is not a variable{}", DidYouMean(.suggestion.as_deref()))]
    Unknown {
        name: String,
        suggestion: Option<String>,
    },
    #[error("`${{{0}` is not closed by `}}`")]
    Unclosed(String),
    #[error("a `$` begins a variable such as `${{host}}`; write `$$` for a dollar sign")]
    LoneDollar,
    #[error("a value cannot contain the control character {0:#04x}")]
    Control(u8),
}

struct DidYouMean<'a>(Option<&'a str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean `${{{name}}}`?"),
            None => f.write_str("; see the list of variables in the reference"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// How a value is made safe for where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// A header value: control characters but tab are dropped, CR, LF and NUL with them.
    Header,
    /// A URI in a header: also, what no URI contains is percent-encoded.
    Uri,
    /// A request target: as `Uri`, `#` is percent-encoded, and so is `?` in variables, so that none of them
    /// starts a query.
    Target,
}

impl Escaping {
    /// The operator's own text stays, as far as it can be sent.
    const fn keeps_text(self, byte: u8) -> bool {
        match self {
            Self::Header => true,
            Self::Uri => is_target_byte(byte) || byte == b'#',
            Self::Target => is_target_byte(byte),
        }
    }
    const fn keeps_variable(self, byte: u8) -> bool {
        match self {
            Self::Header => byte == b'\t' || !byte.is_ascii_control(),
            Self::Uri => self.keeps_text(byte),
            Self::Target => self.keeps_text(byte) && byte != b'?',
        }
    }
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Adjacent text is one part; empty text is none.
    parts: Box<[Part]>,
}

impl Template {
    /// Parses the text of a configuration value.
    ///
    /// # Errors
    /// Unknown variables (with a suggestion), a lone `$`, control characters in the literal text.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if let Some(byte) = text.bytes().find(|&b| b.is_ascii_control() && b != b'\t') {
            return Err(TemplateError::Control(byte));
        }
        Self::parse_body(text)
    }

    /// Parses a text that is no header value and may have several lines.
    ///
    /// # Errors
    /// As [`Self::parse`], but for control characters.
    pub fn parse_body(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut pieces = text.split('$');
        if let Some(head) = pieces.next() {
            literal.extend_from_slice(head.as_bytes());
        }
        while let Some(piece) = pieces.next() {
            if let Some(rest) = piece.strip_prefix('{') {
                let (name, rest) = rest
                    .split_once('}')
                    .ok_or_else(|| TemplateError::Unclosed(rest.to_owned()))?;
                let variable = parse_variable(name)?;
                flush(&mut literal, &mut parts);
                parts.push(Part::Variable(variable));
                literal.extend_from_slice(rest.as_bytes());
            } else if piece.is_empty() {
                // `$$`: the next piece is text as it stands.
                let rest = pieces.next().ok_or(TemplateError::LoneDollar)?;
                literal.push(b'$');
                literal.extend_from_slice(rest.as_bytes());
            } else {
                return Err(TemplateError::LoneDollar);
            }
        }
        flush(&mut literal, &mut parts);
        Ok(Self {
            parts: parts.into_boxed_slice(),
        })
    }

    /// The value, when no variable is in it.
    #[must_use]
    pub const fn constant(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The literal text before the first variable.
    #[must_use]
    pub const fn leading_text(&self) -> &[u8] {
        match &*self.parts {
            [Part::Text(text), ..] => text,
            _ => b"",
        }
    }

    /// The variables in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// Appends the value for a header. It never contains a control character other than tab, whatever the
    /// variables hold, and is cut at [`MAX_OUTPUT`].
    pub fn render(&self, variables: &impl Variables, out: &mut Vec<u8>) {
        self.render_as(Escaping::Header, variables, out);
    }

    /// Appends the value, made safe for where it goes; its variables are cut at [`MAX_OUTPUT`].
    pub fn render_as(&self, escaping: Escaping, variables: &impl Variables, out: &mut Vec<u8>) {
        let mut room = MAX_OUTPUT;
        for part in &self.parts {
            let start = out.len();
            match part {
                Part::Text(text) => {
                    out.extend_from_slice(text);
                    make_safe(start, out, |byte| escaping.keeps_text(byte));
                }
                Part::Variable(variable) => {
                    variables.write(variable, out);
                    make_safe(start, out, |byte| escaping.keeps_variable(byte));
                    out.truncate(start + room.min(out.len() - start));
                    room -= out.len() - start;
                }
            }
        }
    }
}

fn flush(literal: &mut Vec<u8>, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into_boxed_slice()));
    }
}

fn parse_variable(name: &str) -> Result<Variable, TemplateError> {
    let unknown = || TemplateError::Unknown {
        name: name.to_owned(),
        suggestion: suggest(name),
    };
    if let Some((_, variable)) = PLAIN.iter().find(|(text, _)| *text == name) {
        return Ok(variable.clone());
    }
    if let Some(group) = parse_group_number(name) {
        return Ok(Variable::PathGroup(group));
    }
    let (family, rest) = name.split_once('.').ok_or_else(unknown)?;
    if rest.is_empty() {
        return Err(unknown());
    }
    let group = || parse_group_number(rest).unwrap_or_else(|| Group::Name(rest.into()));
    match family {
        "header" => Ok(Variable::Header(rest.to_ascii_lowercase().into())),
        "cookie" => Ok(Variable::Cookie(rest.into())),
        "arg" => Ok(Variable::Arg(rest.into())),
        "path" => Ok(Variable::PathGroup(group())),
        "host" => Ok(Variable::HostGroup(group())),
        _ => Err(unknown()),
    }
}

/// `1` to `99`.
fn parse_group_number(text: &str) -> Option<Group> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let number = text.parse().ok().filter(|&n| digits && n < 100)?;
    Some(Group::Number(number))
}

/// The variable whose name is nearest, when one is near.
fn suggest(name: &str) -> Option<String> {
    let (family, rest) = match name.split_once('.') {
        Some((family, rest)) => (family, Some(rest)),
        None => (name, None),
    };
    let nearest = |candidates: &mut dyn Iterator<Item = &'static str>| {
        candidates
            .map(|candidate| (edit_distance(family, candidate), candidate))
            .filter(|(distance, candidate)| *distance * 3 <= candidate.len())
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, candidate)| candidate)
    };
    match rest {
        Some(rest) => nearest(&mut FAMILIES.into_iter()).map(|family| format!("{family}.{rest}")),
        None => nearest(&mut PLAIN.iter().map(|(text, _)| *text)).map(str::to_owned),
    }
}

/// Levenshtein's distance; names are short and this runs once per mistake.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Cleans what was written from `start` on: control characters go, others that may not stay are
/// percent-encoded.
fn make_safe(start: usize, out: &mut Vec<u8>, stays: impl Fn(u8) -> bool) {
    if out[start..].iter().all(|&byte| stays(byte)) {
        return;
    }
    for byte in out.split_off(start) {
        if stays(byte) {
            out.push(byte);
        } else if !byte.is_ascii_control() {
            push_escape(byte, out);
        }
    }
}
