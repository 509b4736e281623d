//! The cluster in the answer to `tidegate status`.

use super::show::{line, list, show, table, word, wrapped};
use super::when;
use serde_json::Value;

/// Nothing for a cluster of one that shares and follows nothing.
pub(super) fn tell(text: &mut String, cluster: &Value) {
    if cluster["mode"] != true {
        // Alone it may go by what was published all the same.
        return config(text, &cluster["config"]);
    }
    line(
        text,
        format_args!(
            "cluster {}: {} gateways, this one is {}",
            word(&cluster["name"]),
            cluster["nodes"],
            word(&cluster["node"]),
        ),
    );
    bus(text, &cluster["bus"]);
    if cluster["duplicate"] == true {
        line(
            text,
            format_args!("  another gateway has its id: give each a cluster.node (NODE_ID) of its own"),
        );
    }
    if let Some(forged) = cluster["forged"].as_u64().filter(|forged| *forged > 0) {
        line(
            text,
            format_args!(
                "  {forged} announcements were not signed by its key:\n    is cluster.key the same on all gateways?"
            ),
        );
    }
    if cluster["fresh"] == false {
        let answered = list(&cluster["members"]).iter().any(|row| row["via"] == "ping");
        let how = if answered {
            "is by their own answers, or "
        } else {
            "is "
        };
        line(text, format_args!("  what follows {how}the last that was known"));
    }
    let columns = ["STATE", "ROLE", "ZONE", "OPEN", "LOAD", "CONFIG", "VERSION"];
    table(text, "GATEWAY", &columns, list(&cluster["members"]), |row| {
        vec![
            word(&row["node"]).to_owned(),
            match row["same_key"] == false {
                true => format!("{}, other key", word(&row["state"])),
                false => word(&row["state"]).to_owned(),
            },
            dash(word(&row["role"])),
            dash(word(&row["zone"])),
            show(&row["connections"]),
            format!("{:.0}%", row["load"].as_f64().unwrap_or_default() * 100.0),
            version(&row["config_version"]),
            word(&row["version"]).to_owned(),
        ]
    });
    config(text, &cluster["config"]);
    for lease in list(&cluster["leases"]) {
        // Its incarnation says nothing to people.
        let holder = word(&lease["holder"]).split('/').next().unwrap_or_default();
        line(
            text,
            format_args!("  the lease {} is held by {holder}", word(&lease["task"])),
        );
    }
}

/// How what gateways share comes and goes.
fn bus(text: &mut String, bus: &Value) {
    let condition = word(&bus["condition"]);
    let Some(reason) = bus["reason"].as_str() else {
        let rtt = bus["rtt_ms"].as_f64();
        let rtt = rtt.map(|rtt| format!(", {rtt:.2} ms to {}", word(&bus["server"])));
        return line(text, format_args!("  bus {condition}{}", rtt.unwrap_or_default()));
    };
    let since = when::moment(word(&bus["since"]));
    line(text, format_args!("  bus {condition} since {since}: {reason}"));
    for more in [word(&bus["detail"]), word(&bus["hint"])] {
        if !more.is_empty() {
            wrapped(text, "    ", "    ", more);
        }
    }
}

fn version(number: &Value) -> String {
    match number.as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(number) => number.to_string(),
    }
}

/// What of the shared configuration is in force here.
fn config(text: &mut String, config: &Value) {
    if config["follows"] != true {
        return;
    }
    let published = &config["published"];
    match config["version"].as_u64() {
        None | Some(0) => line(text, format_args!("  nothing is published: the file counts")),
        Some(version) if published["there"] == false => line(
            text,
            format_args!("  version {version} took the published configuration back: the file counts"),
        ),
        Some(version) => line(
            text,
            format_args!(
                "  version {version} of the configuration is in force,\n    by {} at {}",
                word(&published["author"]),
                when::moment(word(&published["at"]))
            ),
        ),
    }
    let refused = &config["refused"];
    if !refused.is_null() {
        let (version, why) = (&refused["version"], word(&refused["why"]));
        let told = format!("version {version} is refused here: {why}");
        wrapped(text, "  ", "    ", &told);
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
            "load": 0.25, "config_version": 7, "version": "1.0" });
        let mut cluster = json!({ "mode": true, "name": "prod", "node": "gw-1", "nodes": 1, "fresh": true,
            "bus": { "condition": "live", "reason": null, "rtt_ms": 0.2, "server": "r:1" }, "members": [member] });
        let text = told(&cluster);
        assert!(
            text.contains("cluster prod: 1 gateways, this one is gw-1\n  bus live, 0.20 ms to r:1\n"),
            "{text}"
        );
        assert!(
            text.contains("gw-1     alive  main  3     25%   7       1.0"),
            "{text}"
        );
        cluster["fresh"] = json!(false);
        assert!(told(&cluster).contains("what follows is the last that was known"));
        cluster["members"][0]["via"] = json!("ping");
        assert!(told(&cluster).contains("what follows is by their own answers, or the last that was known"));
        cluster["config"] = json!({ "follows": true, "version": 7,
            "published": { "author": "token ops", "at": "T", "there": true },
            "refused": { "version": 8, "why": "no upstream" } });
        let text = told(&cluster);
        assert!(
            text.contains("version 7 of the configuration is in force,\n    by token ops at T"),
            "{text}"
        );
        assert!(text.contains("version 8 is refused here: no upstream"), "{text}");
        cluster["mode"] = json!(false);
        assert!(told(&cluster).starts_with("  version 7 of"), "{}", told(&cluster));
        cluster["mode"] = json!(true);
        cluster["bus"] = json!({ "condition": "down", "reason": "refused", "detail": "x", "since": "T",
            "hint": "does it run?" });
        cluster["forged"] = json!(3);
        cluster["fresh"] = json!(false);
        let text = told(&cluster);
        assert!(
            text.contains("  bus down since T: refused\n    x\n    does it run?\n"),
            "{text}"
        );
        assert!(
            text.contains("last that was known") && text.contains("3 announcements were not signed"),
            "{text}"
        );
    }
}
