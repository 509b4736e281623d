//! `tidegate tunnels`: what is open, and closing it.

use super::{Reach, ask_with, expect_ok, show};
use crate::app::Surroundings;
use crate::cli::say;
use anyhow::bail;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Tunnels asked for at a time.
const PAGE: usize = 500;

#[derive(Debug, Args)]
pub(in crate::cli) struct TunnelsArgs {
    /// Of this listener
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Of this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// At this endpoint, by its address
    #[arg(long, value_name = "ADDRESS")]
    endpoint: Option<String>,
    /// Of this client, or network of clients
    #[arg(long, value_name = "IP")]
    client: Option<String>,
    /// The one with this number
    #[arg(long, value_name = "N")]
    id: Option<u64>,
    /// Close them
    #[arg(long)]
    close: bool,
    /// What close frames say, where frames are known [default: 1001]
    #[arg(long, value_name = "CODE", requires = "close")]
    code: Option<u16>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT", requires = "close")]
    reason: Option<String>,
    /// Say how many would be closed, close none
    #[arg(long, requires = "close")]
    dry_run: bool,
    /// As the API gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl TunnelsArgs {
    fn filters(&self) -> [(&'static str, Option<&String>); 5] {
        [
            ("listener", self.listener.as_ref()),
            ("route", self.route.as_ref()),
            ("upstream", self.upstream.as_ref()),
            ("endpoint", self.endpoint.as_ref()),
            ("client", self.client.as_ref()),
        ]
    }
}

pub(in crate::cli) fn tunnels(args: &TunnelsArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    if args.close {
        return close(args, surroundings);
    }
    let ask = |path: &str| expect_ok(ask_with(&args.reach, surroundings, "GET", path, None)?);
    let mut found: Vec<Value> = Vec::new();
    if let Some(id) = args.id {
        found.push(ask(&format!("/api/v1/tunnels/{id}"))?);
    } else {
        let mut cursor = String::new();
        loop {
            let mut path = format!("/api/v1/tunnels?limit={PAGE}{cursor}");
            for (name, value) in args.filters() {
                if let Some(value) = value {
                    path.push_str(&format!(
                        "&{name}={}",
                        utf8_percent_encode(value, NON_ALPHANUMERIC)
                    ));
                }
            }
            let page = ask(&path)?;
            found.extend_from_slice(show::list(&page["tunnels"]));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    say(&if args.json {
        format!("{:#}", Value::Array(found))
    } else {
        table(&found)
    });
    Ok(ExitCode::SUCCESS)
}

fn close(args: &TunnelsArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let answer = if let Some(id) = args.id {
        let path = format!("/api/v1/tunnels/{id}{query}");
        ask_with(&args.reach, surroundings, "DELETE", &path, None)?
    } else {
        let mut wish = json!({ "code": args.code, "reason": args.reason });
        for (name, value) in args.filters() {
            wish[name] = json!(value);
        }
        if args.filters().iter().all(|(_, value)| value.is_none()) {
            bail!("say which: --id, --client, --route, --endpoint, --upstream or --listener");
        }
        let path = format!("/api/v1/tunnels/close{query}");
        ask_with(&args.reach, surroundings, "POST", &path, Some(&wish))?
    };
    let answer = expect_ok(answer)?;
    say(&if args.json {
        format!("{answer:#}")
    } else {
        closed(&answer)
    });
    Ok(ExitCode::SUCCESS)
}

fn closed(answer: &Value) -> String {
    let count = answer["tunnels"].as_u64().unwrap_or(0);
    let plural = if count == 1 { "" } else { "s" };
    match answer["dry_run"] == true {
        true => format!("{count} tunnel{plural} would be closed (dry run)\n"),
        false => format!("{count} tunnel{plural} closed\n"),
    }
}

fn table(tunnels: &[Value]) -> String {
    const HEAD: [&str; 9] = [
        "ID", "ROUTE", "ENDPOINT", "CLIENT", "AGE", "IDLE", "RECEIVED", "SENT", "MESSAGES",
    ];
    let mut rows: Vec<[String; 9]> = vec![HEAD.map(str::to_owned)];
    for tunnel in tunnels {
        let seconds = |key: &str| format!("{:.0}s", tunnel[key].as_f64().unwrap_or(0.0));
        let messages = match tunnel["messages_received"].as_u64() {
            Some(received) => format!("{received}/{}", tunnel["messages_sent"]),
            None => "-".to_owned(),
        };
        rows.push([
            tunnel["id"].to_string(),
            show::word(&tunnel["route"]).to_owned(),
            format!(
                "{}/{}",
                show::word(&tunnel["upstream"]),
                show::word(&tunnel["endpoint"])
            ),
            show::word(&tunnel["client"]).to_owned(),
            seconds("age_seconds"),
            seconds("idle_seconds"),
            tunnel["bytes_received"].to_string(),
            tunnel["bytes_sent"].to_string(),
            messages,
        ]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_shown_in_columns() {
        let tunnel = json!({
            "id": 1025, "route": "chat", "upstream": "app", "endpoint": "10.0.0.1:80", "client": "203.0.113.9",
            "age_seconds": 61.4, "idle_seconds": 0.2, "bytes_received": 10, "bytes_sent": 2000,
            "messages_received": null, "messages_sent": null,
        });
        let text = table(&[tunnel]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ID    ROUTE"), "{text}");
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "1025",
                "chat",
                "app/10.0.0.1:80",
                "203.0.113.9",
                "61s",
                "0s",
                "10",
                "2000",
                "-"
            ]
        );
    }

    #[test]
    fn how_many_were_closed_is_said() {
        assert_eq!(
            closed(&json!({ "tunnels": 1, "dry_run": false })),
            "1 tunnel closed\n"
        );
        assert_eq!(
            closed(&json!({ "tunnels": 3, "dry_run": true })),
            "3 tunnels would be closed (dry run)\n"
        );
    }
}
