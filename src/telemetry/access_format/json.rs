//! The record as one JSON object per line: every field, always in the same order, `null` for what is not known.

use super::clock::{TimeFormat, push_millis, push_time};
use super::escape::Escape;
use super::redact::Redact;
use super::values::{ended_by, push_ip, push_number};
use crate::message::head::RequestHead;
use crate::message::names::Name;
use crate::telemetry::access::{AccessRecord, Outcome, TlsRecord};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn write(out: &mut Vec<u8>, redact: &Redact, record: &AccessRecord<'_>) {
    let mut object = Object { out, redact };
    object.when_and_who(record);
    object.request(record);
    object.answer(record);
    object.attempts(record);
    object.out.extend_from_slice(b"]}\n");
}

struct Object<'a> {
    out: &'a mut Vec<u8>,
    redact: &'a Redact,
}

impl Object<'_> {
    fn when_and_who(&mut self, record: &AccessRecord<'_>) {
        self.raw("{\"time\":\"");
        push_time(self.out, record.time - record.duration(), TimeFormat::Utc);
        self.raw("\",\"duration_ms\":");
        push_millis(self.out, record.duration());
        self.raw(",\"head_ms\":");
        push_millis(self.out, record.since_start(record.head_done));
        self.raw(",\"client\":\"");
        push_ip(self.out, record.client);
        self.raw("\",\"peer\":");
        self.address(record.peer);
        self.raw(",\"server\":");
        self.address(record.server);
        self.announced(record);
        self.raw(",\"listener\":");
        self.text(Some(record.listener.as_bytes()));
        self.raw(",\"scheme\":");
        self.text(Some(record.scheme.as_bytes()));
        self.raw(",\"tls\":");
        match &record.tls {
            Some(tls) => self.session(tls),
            None => self.raw("null"),
        }
        self.raw(",\"connection\":");
        push_number(self.out, record.connection);
        self.raw(",\"connection_requests\":");
        push_number(self.out, record.connection_requests);
    }

    fn session(&mut self, tls: &TlsRecord<'_>) {
        self.raw("{\"version\":");
        self.text(Some(tls.protocol.as_bytes()));
        self.raw(",\"cipher\":");
        self.text(Some(tls.cipher.as_bytes()));
        self.raw(",\"group\":");
        self.text(Some(tls.group.as_bytes()));
        self.raw(",\"alpn\":");
        self.text(tls.alpn);
        self.raw(",\"server_name\":");
        self.text(tls.server_name.map(str::as_bytes));
        self.raw(",\"resumed\":");
        self.boolean(tls.resumed);
        self.raw(",\"client_subject\":");
        self.text(tls.client.map(|client| client.subject.as_bytes()));
        self.raw(",\"client_fingerprint\":");
        self.text(tls.client.map(|client| client.fingerprint.as_bytes()));
        self.raw("}");
    }

    fn announced(&mut self, record: &AccessRecord<'_>) {
        self.raw(",\"proxy_protocol\":");
        let Some(announced) = &record.announced else {
            return self.raw("null");
        };
        self.raw("{\"version\":");
        push_number(self.out, announced.version.into());
        self.raw(",\"source\":");
        self.address(announced.source);
        self.raw(",\"destination\":");
        self.address(announced.destination);
        for (name, value) in [
            (",\"alpn\":", announced.alpn),
            (",\"authority\":", announced.authority),
            (",\"unique_id\":", announced.unique_id),
            (",\"tls_version\":", announced.tls_version),
            (",\"tls_common_name\":", announced.tls_common_name),
            (",\"tls_cipher\":", announced.tls_cipher),
        ] {
            self.raw(name);
            self.text(value);
        }
        self.raw("}");
    }

    fn request(&mut self, record: &AccessRecord<'_>) {
        let request = record.request;
        let field = |name| request.and_then(|r| r.buf.get(name));
        self.raw(",\"method\":");
        self.text(request.map(RequestHead::method_text));
        self.raw(",\"target\":");
        self.uri(request.map(RequestHead::target));
        self.raw(",\"version\":");
        self.text(request.map(|r| r.version.text().as_bytes()));
        self.raw(",\"host\":");
        self.text(Some(record.host));
        self.raw(",\"path\":");
        self.text(Some(record.path));
        self.raw(",\"referer\":");
        self.uri(field(Name::Referer));
        self.raw(",\"user_agent\":");
        self.text(field(Name::UserAgent));
        self.raw(",\"request_id\":");
        self.text(Some(record.request_id));
        self.raw(",\"route\":");
        self.text(record.route.map(str::as_bytes));
        self.raw(",\"upstream\":");
        self.text(record.upstream.map(str::as_bytes));
    }

    fn answer(&mut self, record: &AccessRecord<'_>) {
        self.raw(",\"status\":");
        push_number(self.out, record.status.into());
        self.raw(",\"upstream_status\":");
        match record.response {
            Some(response) => push_number(self.out, response.status.into()),
            None => self.raw("null"),
        }
        self.raw(",\"content_type\":");
        self.text(record.response.and_then(|r| r.buf.get(Name::ContentType)));
        self.raw(",\"grpc_status\":");
        match record.grpc_status {
            Some(code) => push_number(self.out, code.number().into()),
            None => self.raw("null"),
        }
        self.raw(",\"token\":");
        self.text(record.token.map(|t| t.name().as_bytes()));
        self.raw(",\"detail\":");
        self.text(record.detail.map(str::as_bytes));
        self.raw(",\"timeout\":");
        self.text(record.timeout.map(str::as_bytes));
        self.raw(",\"ended\":\"");
        self.raw(ended_by(record.ended));
        self.raw("\",\"bytes_received\":");
        push_number(self.out, record.bytes_received);
        self.raw(",\"bytes_sent\":");
        push_number(self.out, record.bytes_sent);
        self.raw(",\"body_bytes_sent\":");
        push_number(self.out, record.body_bytes_sent);
        self.raw(",\"tunnel\":");
        self.boolean(record.tunnel.is_some());
        let tunnel = record.tunnel.unwrap_or_default();
        self.raw(",\"close\":");
        self.text(tunnel.closed.map(|closed| closed.name().as_bytes()));
        for (name, number) in [
            (",\"close_code\":", tunnel.code.map(u64::from)),
            (
                ",\"messages_received\":",
                tunnel.messages.map(|(received, _)| received),
            ),
            (",\"messages_sent\":", tunnel.messages.map(|(_, sent)| sent)),
        ] {
            self.raw(name);
            match number {
                Some(number) => push_number(self.out, number),
                None => self.raw("null"),
            }
        }
        self.raw(",\"queue_ms\":");
        push_millis(self.out, record.queued);
        self.raw(",\"sticky\":");
        self.text(record.sticky.map(str::as_bytes));
        self.raw(",\"attempts\":[");
    }

    fn attempts(&mut self, record: &AccessRecord<'_>) {
        for (i, attempt) in record.attempts.iter().enumerate() {
            self.raw(if i == 0 { "{" } else { ",{" });
            self.raw("\"endpoint\":");
            self.text(Some(attempt.endpoint.as_bytes()));
            match attempt.outcome {
                Outcome::Answered(status) => {
                    self.raw(",\"outcome\":\"answered\",\"status\":");
                    push_number(self.out, status.into());
                    self.raw(",\"token\":null");
                }
                Outcome::Failed(token) => {
                    self.raw(",\"outcome\":\"failed\",\"status\":null,\"token\":\"");
                    self.raw(token.name());
                    self.raw("\"");
                }
                Outcome::Connected => self.raw(",\"outcome\":\"connected\",\"status\":null,\"token\":null"),
                Outcome::Cancelled => self.raw(",\"outcome\":\"cancelled\",\"status\":null,\"token\":null"),
            }
            self.raw(",\"reused\":");
            self.boolean(attempt.reused);
            self.raw(",\"protocol\":\"");
            self.raw(attempt.version.text());
            self.raw("\",\"started_ms\":");
            push_millis(self.out, record.since_start(attempt.started));
            self.raw(",\"connected_ms\":");
            self.millis(attempt.connected.map(|at| record.since_start(at)));
            self.raw(",\"head_ms\":");
            self.millis(attempt.head.map(|at| record.since_start(at)));
            self.raw(",\"ended_ms\":");
            push_millis(self.out, record.since_start(attempt.ended));
            self.raw("}");
        }
    }

    /// Text of our own that needs no escaping.
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            return self.raw("null");
        };
        self.out.push(b'"');
        Escape::Json.push(self.out, value);
        self.out.push(b'"');
    }

    fn uri(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            return self.raw("null");
        };
        let Self { out, redact } = self;
        out.push(b'"');
        redact.uri(value, |piece| Escape::Json.push(out, piece));
        out.push(b'"');
    }

    fn address(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            return self.raw("null");
        };
        let v6 = address.is_ipv6();
        self.raw(if v6 { "\"[" } else { "\"" });
        push_ip(self.out, address.ip());
        self.raw(if v6 { "]:" } else { ":" });
        push_number(self.out, address.port().into());
        self.raw("\"");
    }

    fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    fn millis(&mut self, duration: Option<Duration>) {
        match duration {
            Some(duration) => push_millis(self.out, duration),
            None => self.raw("null"),
        }
    }
}
