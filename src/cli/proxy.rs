//! `tidegate proxy`: a gateway without a configuration file.

use super::{EXIT_USAGE, complain, run};
use crate::app::{RunOptions, Surroundings};
use crate::control::reload::Source;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct ProxyArgs {
    /// An app server: host:port or unix:/path; more than one are balanced
    #[arg(long, value_name = "ADDR", required = true)]
    to: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
    /// How to balance: round_robin, least_connections, adaptive, random_two, least_time, ip_hash, first
    #[arg(long, value_name = "ALGO", default_value = "round_robin")]
    balance: String,
    /// Where the admin API listens; without it there is none
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Keep each client at its app server
    #[arg(long)]
    sticky: bool,
    /// Serve HTTPS with a certificate made on the spot
    #[arg(long)]
    tls_self_signed: bool,
    /// Write, as JSON, what was bound to this file once the gateway serves
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

pub(super) fn proxy(args: &ProxyArgs, surroundings: Surroundings) -> anyhow::Result<ExitCode> {
    for (asked, flag) in [
        (args.sticky, "--sticky"),
        (args.tls_self_signed, "--tls-self-signed"),
    ] {
        if asked {
            complain(&format!("tidegate: {flag} is not available in this version"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    }
    let source = Source::Text {
        name: "command line".to_owned(),
        text: config_text(args),
        environment: surroundings.environment.clone(),
    };
    run::start(RunOptions {
        source,
        ready_file: args.ready_file.clone(),
        surroundings,
    })
}

fn config_text(args: &ProxyArgs) -> String {
    let endpoints: Vec<toml::Value> = args.to.iter().map(|address| endpoint(address).into()).collect();
    let mut text = format!(
        "[listeners.proxy]\naddress = {}\n[upstreams.app]\nbalance = {}\nendpoints = {}\n[[routes]]\nname = \"all\"\n\
         upstream = \"app\"\n",
        toml::Value::from(args.listen.as_str()),
        toml::Value::from(args.balance.as_str()),
        toml::Value::from(endpoints),
    );
    if let Some(admin) = &args.admin {
        text.push_str(&format!(
            "[admin]\naddress = {}\n",
            toml::Value::from(admin.as_str())
        ));
    }
    text
}

/// An address, also as people paste it from a browser.
fn endpoint(address: &str) -> &str {
    address
        .strip_prefix("http://")
        .unwrap_or(address)
        .trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};

    fn args(to: &[&str]) -> ProxyArgs {
        ProxyArgs {
            to: to.iter().map(|text| (*text).to_owned()).collect(),
            listen: "127.0.0.1:0".to_owned(),
            balance: "least_connections".to_owned(),
            admin: Some("127.0.0.1:0".to_owned()),
            sticky: false,
            tls_self_signed: false,
            ready_file: None,
        }
    }

    #[test]
    fn the_arguments_become_a_configuration() {
        let text = config_text(&args(&["127.0.0.1:3000", "http://app.internal:3001/"]));
        let loaded = load_text("command line", &text, &Environment::default()).unwrap();
        let endpoints = &loaded.config.upstreams["app"].endpoints;
        let texts: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.text.as_str()).collect();
        assert_eq!(texts, ["127.0.0.1:3000", "app.internal:3001"]);
        assert_eq!(loaded.config.routes.len(), 1);
        assert!(loaded.config.admin.is_some());
    }

    #[test]
    fn an_argument_cannot_write_into_the_configuration() {
        let text = config_text(&args(&["\"]\n[admin]\naddress = \"0.0.0.0:1"]));
        assert!(load_text("command line", &text, &Environment::default()).is_err());
    }
}
