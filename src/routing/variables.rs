//! The values of a request for templates.

use super::captures::{Captures, Groups};
use crate::message::head::RequestHead;
use crate::message::params::{cookie_values, query_values};
use crate::message::template::{Variable, Variables};
use std::io::Write;
use std::net::IpAddr;

/// A request as templates see it. What is not known yet is empty.
#[derive(Clone, Copy, Debug)]
pub struct RequestVariables<'a> {
    pub head: &'a RequestHead,
    /// As resolved through trusted proxies.
    pub client: IpAddr,
    pub request_id: &'a [u8],
    /// Normal forms, as routing saw them.
    pub host: &'a [u8],
    pub path: &'a [u8],
    /// As received.
    pub query: Option<&'a [u8]>,
    /// `http` or `https`.
    pub scheme: &'a str,
    pub listener: &'a str,
    pub route: &'a str,
    pub upstream: &'a str,
    pub captures: Option<&'a Captures>,
}

impl Variables for RequestVariables<'_> {
    fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
        let query = self.query.unwrap_or_default();
        let path_groups = || self.captures.and_then(|c| c.path.as_ref());
        let host_groups = || self.captures.and_then(|c| c.host.as_ref());
        let value = match variable {
            // Writing to a Vec cannot fail.
            Variable::ClientIp => return write!(out, "{}", self.client.to_canonical()).unwrap_or_default(),
            Variable::Uri => {
                out.extend_from_slice(self.path);
                if self.query.is_some() {
                    out.push(b'?');
                }
                Some(query)
            }
            Variable::RequestId => Some(self.request_id),
            Variable::Host => Some(self.host),
            Variable::Path => Some(self.path),
            Variable::Query => Some(query),
            Variable::Method => Some(self.head.method_text()),
            Variable::Scheme => Some(self.scheme.as_bytes()),
            Variable::Listener => Some(self.listener.as_bytes()),
            Variable::Route => Some(self.route.as_bytes()),
            Variable::Upstream => Some(self.upstream.as_bytes()),
            Variable::Header(name) => self.head.buf.find(name.as_bytes()).next(),
            Variable::Cookie(name) => cookie_values(&self.head.buf, name.as_bytes()).next(),
            Variable::Arg(name) => query_values(query, name.as_bytes()).next(),
            Variable::PathGroup(group) => path_groups().and_then(|groups: &Groups| groups.get(group)),
            Variable::HostGroup(group) => host_groups().and_then(|groups: &Groups| groups.get(group)),
        };
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::template::Template;
    use crate::routing::tests::head;

    #[test]
    fn every_variable_has_its_value() {
        let head = head(
            "PUT",
            &[("X-User", "ann"), ("x-user", "bob"), ("Cookie", "a=1; sid=2")],
        );
        let variables = RequestVariables {
            head: &head,
            client: "::ffff:10.0.0.1".parse().unwrap(),
            request_id: b"id-1",
            host: b"a.com",
            path: b"/p/q",
            query: Some(b"x=1&y=%20"),
            scheme: "https",
            listener: "web",
            route: "r",
            upstream: "u",
            captures: None,
        };
        for (text, value) in [
            ("${client_ip}", "10.0.0.1"),
            ("${request_id}", "id-1"),
            ("${scheme}://${host}${uri}", "https://a.com/p/q?x=1&y=%20"),
            ("${path} ${query}", "/p/q x=1&y=%20"),
            ("${method} ${listener} ${route} ${upstream}", "PUT web r u"),
            ("${header.X-USER} ${cookie.sid} ${arg.y}", "ann 2 %20"),
            ("[${header.none}${cookie.none}${arg.none}${1}${host.1}]", "[]"),
        ] {
            let mut out = Vec::new();
            Template::parse(text).unwrap().render(&variables, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value, "{text}");
        }
        let mut out = Vec::new();
        let bare = RequestVariables {
            query: None,
            ..variables
        };
        bare.write(&Variable::Uri, &mut out);
        assert_eq!(out, b"/p/q");
    }
}
