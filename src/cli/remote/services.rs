//! `tidegate services`: what registered itself.

use super::show::{list, table, word};
use super::{Reach, ask, expect_ok, when};
use crate::app::Surroundings;
use crate::cli::say;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Registrations asked for at a time.
const PAGE: usize = 500;

#[derive(Debug, Args)]
pub(in crate::cli) struct ServicesArgs {
    /// Of this name
    name: Option<String>,
    /// With this tag; several: with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only those that call themselves healthy
    #[arg(long)]
    healthy: bool,
    /// As the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(in crate::cli) fn services(args: &ServicesArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let mut query = format!("limit={PAGE}");
    let mut add = |name: &str, value: &str| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        query.push_str(&format!("&{name}={value}"));
    };
    if let Some(name) = &args.name {
        add("name", name);
    }
    for tag in &args.tag {
        add("tag", tag);
    }
    if args.healthy {
        add("healthy", "true");
    }
    let mut found: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/services?{query}{cursor}");
        let page = expect_ok(ask(&args.reach, surroundings, "GET", &path)?)?;
        found.extend_from_slice(list(&page["services"]));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
            None => break,
        }
    }
    say(&if args.json {
        format!("{:#}", json!({ "services": found }))
    } else {
        shown(&found)
    });
    Ok(ExitCode::SUCCESS)
}

fn shown(services: &[Value]) -> String {
    if services.is_empty() {
        return "nothing is registered\n".to_owned();
    }
    let mut text = String::new();
    let columns = ["ID", "ADDRESS", "VERSION", "HEALTH", "TAGS", "ENDS"];
    table(&mut text, "SERVICE", &columns, services, |service| {
        let tags: Vec<&str> = list(&service["tags"]).iter().map(word).collect();
        let address = word(&service["address"]);
        let port = &service["port"];
        vec![
            word(&service["name"]).to_owned(),
            word(&service["id"]).to_owned(),
            if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            },
            dash(word(&service["version"])),
            word(&service["health"]).to_owned(),
            dash(&tags.join(",")),
            when::moment(word(&service["expires_at"])),
        ]
    });
    // Elsewhere tables follow on something.
    text.trim_start().to_owned()
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_stand_in_columns_and_columns_without_anything_are_left_out() {
        let service = json!({ "name": "api", "id": "api-1", "address": "::1", "port": 80, "version": "",
            "health": "healthy", "tags": ["a", "b"], "expires_at": "T" });
        assert_eq!(
            shown(&[service]),
            "SERVICE  ID     ADDRESS   HEALTH   TAGS  ENDS\napi      api-1  [::1]:80  healthy  a,b   T\n"
        );
        assert_eq!(shown(&[]), "nothing is registered\n");
    }
}
