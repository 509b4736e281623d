//! The `redirect` action.

use crate::config::diagnostic::Diagnostic;
use crate::message::template::{Escaping, Template, Variables};

/// Statuses that send a client elsewhere.
pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A redirect, compiled.
#[derive(Clone, Debug)]
pub struct Redirect {
    to: Template,
    /// One of [`STATUSES`].
    pub status: u16,
}

impl Redirect {
    /// Compiles the action; `key` is where it stands, such as `routes[2].redirect`.
    ///
    /// # Errors
    /// An unknown variable, an empty target, a status that is no redirect.
    pub fn build(to: &str, status: u16, key: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        if !STATUSES.contains(&status) {
            let message = format!("{status} does not redirect; accepted: 301, 302, 303, 307, 308");
            errors.push(Diagnostic::error(format!("{key}.status"), message));
        }
        if to.is_empty() {
            errors.push(Diagnostic::error(
                format!("{key}.to"),
                "a redirect needs a target",
            ));
        }
        match Template::parse(to) {
            Ok(to) if errors.is_empty() => return Ok(Self { to, status }),
            Ok(_) => {}
            Err(error) => errors.push(Diagnostic::error(format!("{key}.to"), error.to_string())),
        }
        Err(errors)
    }

    /// Appends the value of the Location field.
    pub fn location(&self, variables: &impl Variables, out: &mut Vec<u8>) {
        let start = out.len();
        self.to.render_as(Escaping::Uri, variables, out);
        // `//other.example/` names another host. When the operator did not write it, a client put it into the
        // path to be sent there.
        let written_by_operator = self.to.leading_text().starts_with(b"//");
        if !written_by_operator && out[start..].starts_with(b"/") {
            let slashes = out[start..].iter().take_while(|&&b| b == b'/').count();
            out.drain(start..start + slashes - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::template::Variable;

    struct Path(&'static [u8]);
    impl Variables for Path {
        fn write(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0);
        }
    }

    fn location(to: &str, path: &'static [u8]) -> String {
        let mut out = b"Location: ".to_vec();
        Redirect::build(to, 308, "k")
            .unwrap()
            .location(&Path(path), &mut out);
        String::from_utf8(out.split_off(10)).unwrap()
    }

    #[test]
    fn the_target_is_a_template() {
        assert_eq!(
            location("https://new.example${uri}", b"/a?b"),
            "https://new.example/a?b"
        );
        assert_eq!(location("/caf\u{e9}${path}", b"/x y\r\nz"), "/caf%C3%A9/x%20yz");
    }

    #[test]
    fn a_client_cannot_name_another_host_by_slashes() {
        assert_eq!(location("${path}", b"//evil.example/x"), "/evil.example/x");
        assert_eq!(location("/${path}", b"/evil.example"), "/evil.example");
        assert_eq!(location("${path}", b"/\\evil.example"), "/%5Cevil.example");
        assert_eq!(location("//cdn.example${path}", b"/x"), "//cdn.example/x");
        assert_eq!(location("${path}", b"/"), "/");
    }

    #[test]
    fn mistakes_have_keys() {
        let errors = Redirect::build("${hots}", 200, "routes[0].redirect").unwrap_err();
        let keys: Vec<_> = errors.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["routes[0].redirect.status", "routes[0].redirect.to"]);
        assert!(Redirect::build("", 301, "k").is_err());
        for status in STATUSES {
            assert_eq!(Redirect::build("/", status, "k").unwrap().status, status);
        }
    }
}
