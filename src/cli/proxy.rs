//! `tidegate proxy`: a gateway without a configuration file.

use super::{complain, run};
use crate::app::{RunOptions, Surroundings};
use crate::control::reload::Source;
use crate::control::state_dir::StateDir;
use crate::tls::certificate::{Certificate, fingerprint};
use crate::tls::{provider, self_signed};
use anyhow::Context as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
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
    /// Keep each client at its app server, by a signed cookie called tidegate
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
    let certificate = args
        .tls_self_signed
        .then(|| self_signed(args, &surroundings))
        .transpose()?;
    let source = Source::Text {
        name: "command line".to_owned(),
        text: config_text(args, certificate.as_ref()),
        environment: surroundings.environment.clone(),
    };
    run::start(RunOptions {
        source,
        ready_file: args.ready_file.clone(),
        surroundings,
    })
}

/// Certificate and key.
type Pair = (PathBuf, PathBuf);

/// The self-signed certificate of this host: the same at each start, so that a browser is asked about it once, until
/// it runs out or is for another address.
fn self_signed(args: &ProxyArgs, surroundings: &Surroundings) -> anyhow::Result<Pair> {
    let state = StateDir::open(&surroundings.state_candidates(None))
        .context("a self-signed certificate needs a place to be kept")?;
    let path = |extension: &str| state.path().join(format!("self-signed.{extension}"));
    let (cert, key) = (path("pem"), path("key"));
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if let Ok(address) = args.listen.parse::<std::net::SocketAddr>()
        && !address.ip().is_unspecified()
        && !address.ip().is_loopback()
    {
        names.push(address.ip().to_string());
    }
    let now = jiff::Zoned::now();
    let seconds = now.timestamp().as_second();
    let kept = Certificate::load(&cert, &key, &provider::plain(), seconds);
    let good = |kept: &Certificate| kept.not_after > seconds && names.iter().all(|name| kept.covers(name));
    let kept = match kept {
        Ok((kept, _)) if good(&kept) => kept,
        _ => {
            let (made, secret) = self_signed::make(&names, now.date())?;
            write_private(&key, &secret)?;
            write_private(&cert, &made)?;
            Certificate::load(&cert, &key, &provider::plain(), seconds)?.0
        }
    };
    let leaf = kept.key.end_entity_cert()?;
    complain(&format!(
        "tidegate: HTTPS with the self-signed certificate {}, which browsers will ask about; SHA-256 {}",
        cert.display(),
        fingerprint(leaf)
    ));
    Ok((cert, key))
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = std::fs::remove_file(path)
        .or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        })
        .and_then(|()| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        })
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("{} can't be written", path.display()))
}

fn config_text(args: &ProxyArgs, certificate: Option<&Pair>) -> String {
    let endpoints: Vec<toml::Value> = args.to.iter().map(|address| endpoint(address).into()).collect();
    let mut text = format!(
        "[listeners.proxy]\naddress = {}\n[upstreams.app]\nbalance = {}\nendpoints = {}\n[[routes]]\nname = \"all\"\n\
         upstream = \"app\"\n",
        toml::Value::from(args.listen.as_str()),
        toml::Value::from(args.balance.as_str()),
        toml::Value::from(endpoints),
    );
    if args.sticky {
        text.push_str("[upstreams.app.sticky]\ncookie = \"tidegate\"\n");
    }
    if let Some((cert, key)) = certificate {
        let path = |path: &Path| toml::Value::from(path.display().to_string());
        text.push_str(&format!(
            "[listeners.proxy.tls]\ndefault = \"first\"\ncertificates = [{{ cert = {}, key = {} }}]\n",
            path(cert),
            path(key)
        ));
    }
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
        let text = config_text(&args(&["127.0.0.1:3000", "http://app.internal:3001/"]), None);
        let loaded = load_text("command line", &text, &Environment::default()).unwrap();
        let endpoints = &loaded.config.upstreams["app"].endpoints;
        let texts: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.text.as_str()).collect();
        assert_eq!(texts, ["127.0.0.1:3000", "app.internal:3001"]);
        assert_eq!(loaded.config.routes.len(), 1);
        assert!(loaded.config.admin.is_some());
        assert!(loaded.config.upstreams["app"].sticky.is_none());
    }

    #[test]
    fn clients_are_kept_at_their_servers_where_that_is_asked_for() {
        let mut args = args(&["127.0.0.1:3000"]);
        args.sticky = true;
        let loaded = load_text("command line", &config_text(&args, None), &Environment::default()).unwrap();
        assert!(loaded.config.upstreams["app"].sticky.is_some());
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn an_argument_cannot_write_into_the_configuration() {
        let text = config_text(&args(&["\"]\n[admin]\naddress = \"0.0.0.0:1"]), None);
        assert!(load_text("command line", &text, &Environment::default()).is_err());
    }
}
