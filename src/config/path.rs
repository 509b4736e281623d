//! Key paths such as `upstreams.api.endpoints[2].weight`, as problems name them.

/// The path of a key in a table; names that TOML would want quoted are quoted.
#[must_use]
pub fn join(parent: &str, name: &str) -> String {
    let mut out = String::with_capacity(parent.len() + name.len() + 3);
    out.push_str(parent);
    if !parent.is_empty() {
        out.push('.');
    }
    push_key(&mut out, name);
    out
}

/// The path of an element of an array, counted from 0.
#[must_use]
pub fn index(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Writes a key, quoted where TOML asks for it.
pub fn push_key(out: &mut String, name: &str) {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare {
        out.push_str(name);
    } else {
        push_text(out, name);
    }
}

/// Writes a TOML basic string.
pub fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\U{:08X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The path without quotes: what places are looked up by, so that a reporter need not care for them.
#[must_use]
pub fn plain(path: &str) -> String {
    path.chars().filter(|c| *c != '"').collect()
}
