//! What a gateway tells on its admin listener.

use super::Gateway;
use crate::address::Address;
use crate::message::Response;
use crate::raw::Conn;
use serde_json::Value;

impl Gateway {
    /// GET of an admin path.
    #[track_caller]
    #[must_use]
    pub fn admin_get(&self, target: &str) -> Response {
        self.admin_call("GET", target, "", "")
    }

    /// Any request to the admin listener, with extra header lines.
    #[track_caller]
    #[must_use]
    pub fn admin_call(&self, method: &str, target: &str, headers: &str, body: &str) -> Response {
        let mut lines = headers.to_owned();
        if let Some(token) = self.token.as_ref().filter(|_| !lines.contains("Authorization")) {
            lines += &format!("Authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            lines += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        let request = format!("{method} {target} HTTP/1.1\r\nHost: admin\r\n{lines}\r\n{body}");
        Conn::connect(self.admin()).send(request).response_to(method)
    }

    /// `/stats`.
    #[track_caller]
    #[must_use]
    pub fn stats(&self) -> Value {
        self.admin_get("/stats").json()
    }

    /// The metrics page.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> String {
        self.admin_get("/metrics").text()
    }

    /// Sum of the samples of a metric whose labels contain each of these `key="value"` texts.
    #[track_caller]
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics();
        let samples = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with(['{', ' '])) && labels.iter().all(|l| line.contains(l))
        });
        samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// What the API shows of the endpoint at this address of the upstream `app`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn endpoint(&self, address: &Address) -> Value {
        let upstream = self.admin_get("/api/v1/upstreams/app").json();
        let text = address.to_string();
        let mut endpoints = upstream["endpoints"].as_array().into_iter().flatten();
        let found = endpoints.find(|endpoint| endpoint["address"] == text.as_str());
        found
            .unwrap_or_else(|| panic!("no {address} in {upstream}"))
            .clone()
    }

    /// Events of this type so far, the oldest first.
    #[track_caller]
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let page = self.admin_get("/api/v1/events?limit=1000").json();
        let all = page["events"].as_array().into_iter().flatten();
        all.filter(|event| event["type"] == kind).cloned().collect()
    }

    /// The number of the running configuration.
    #[track_caller]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.metric("tidegate_config_generation", &[]) as u64
    }

    /// Reloads so far with this result: `applied`, `unchanged`, `rejected`.
    #[track_caller]
    #[must_use]
    pub fn reloads(&self, result: &str) -> u64 {
        self.metric(
            "tidegate_config_reloads_total",
            &[&format!("result=\"{result}\"")],
        ) as u64
    }

    /// Client connections open now, tunnels included; the admin listener's are not counted.
    #[track_caller]
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.metric("tidegate_connections_open", &[]) as u64
    }
}
