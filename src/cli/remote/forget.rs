//! `tidegate cluster forget`: a gateway that has left for good.

use super::change::escaped;
use super::{Reach, ask, expect_ok};
use crate::app::Surroundings;
use crate::cli::say;
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(in crate::cli) struct ForgetArgs {
    /// Id of the gateway
    node: String,
    /// Take back what was changed at run time on it, on all gateways
    #[arg(long)]
    overrides: bool,
    /// Say what would go, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(in crate::cli) fn forget(args: &ForgetArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let fate = if args.overrides { "remove" } else { "keep" };
    let path = format!(
        "/api/v1/clustering/nodes/{}?overrides={fate}&dry_run={}",
        escaped(&args.node),
        args.dry_run
    );
    let answer = expect_ok(ask(&args.reach, surroundings, "DELETE", &path)?)?;
    say(&forgotten(&answer, args.dry_run));
    Ok(ExitCode::SUCCESS)
}

fn forgotten(answer: &Value, dry_run: bool) -> String {
    let node = answer["node"].as_str().unwrap_or_default();
    let would = if dry_run { "would be " } else { "" };
    let mut text = format!("{node} {would}forgotten\n");
    let fate = answer["overrides"]["fate"].as_str().unwrap_or_default();
    for changed in answer["overrides"]["of"].as_array().into_iter().flatten() {
        let changed = changed.as_str().unwrap_or_default();
        text.push_str(&format!("  changed there, {would}{fate}: {changed}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_becomes_of_what_was_changed_there_is_told() {
        let answer = json!({ "node": "gw-2", "overrides": { "of": ["endpoint app/a:1"], "fate": "kept" } });
        assert_eq!(
            forgotten(&answer, false),
            "gw-2 forgotten\n  changed there, kept: endpoint app/a:1\n"
        );
        assert!(forgotten(&answer, true).contains("would be kept"));
    }
}
