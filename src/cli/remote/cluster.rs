//! The cluster in the answer to `tidegate status`.

use super::show::{line, list, show, table, word};
use serde_json::Value;

/// Nothing for a cluster of one that shares nothing.
pub(super) fn tell(text: &mut String, cluster: &Value) {
    if cluster["mode"] != true {
        return;
    }
    let bus = &cluster["bus"];
    let mut how = word(&bus["condition"]).to_owned();
    if let Some(reason) = bus["reason"].as_str() {
        how = format!(
            "{how} since {} ({reason}: {})",
            word(&bus["since"]),
            word(&bus["detail"])
        );
    } else if let Some(rtt) = bus["rtt_ms"].as_f64() {
        how = format!("{how}, {rtt:.2} ms to {}", word(&bus["server"]));
    }
    line(
        text,
        format_args!(
            "cluster {}: {} gateways, this one is {}; bus {how}",
            word(&cluster["name"]),
            cluster["nodes"],
            word(&cluster["node"]),
        ),
    );
    if cluster["duplicate"] == true {
        line(
            text,
            format_args!("  another gateway has its id: set cluster.node"),
        );
    }
    if cluster["fresh"] == false {
        line(text, format_args!("  what follows is the last that was known"));
    }
    let columns = ["STATE", "ROLE", "ZONE", "CONNECTIONS", "LOAD", "VERSION"];
    table(text, "GATEWAY", &columns, list(&cluster["members"]), |row| {
        vec![
            word(&row["node"]).to_owned(),
            word(&row["state"]).to_owned(),
            dash(word(&row["role"])),
            dash(word(&row["zone"])),
            show(&row["connections"]),
            format!("{:.0}%", row["load"].as_f64().unwrap_or_default() * 100.0),
            word(&row["version"]).to_owned(),
        ]
    });
    for lease in list(&cluster["leases"]) {
        line(
            text,
            format_args!("  {} is done by {}", word(&lease["task"]), word(&lease["holder"])),
        );
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(cluster: &Value) -> String {
        let mut text = String::new();
        tell(&mut text, cluster);
        text
    }

    #[test]
    fn gateways_are_told_with_how_the_bus_is() {
        assert_eq!(told(&json!({ "mode": false })), "");
        let member = json!({ "node": "gw-1", "state": "alive", "role": "main", "zone": "", "connections": 3,
            "load": 0.25, "version": "1.0" });
        let mut cluster = json!({ "mode": true, "name": "prod", "node": "gw-1", "nodes": 1, "fresh": true,
            "bus": { "condition": "live", "reason": null, "rtt_ms": 0.2, "server": "r:1" }, "members": [member] });
        let text = told(&cluster);
        assert!(
            text.contains("cluster prod: 1 gateways, this one is gw-1; bus live, 0.20 ms to r:1"),
            "{text}"
        );
        assert!(
            text.contains("gw-1     alive  main  -     3            25%   1.0"),
            "{text}"
        );
        cluster["bus"] = json!({ "condition": "down", "reason": "refused", "detail": "x", "since": "T" });
        cluster["fresh"] = json!(false);
        let text = told(&cluster);
        assert!(
            text.contains("bus down since T (refused: x)") && text.contains("last that was known"),
            "{text}"
        );
    }
}
