//! What we show of many gateways at once: the compose file's configurations are good, and dashboard and scrape name
//! only what exists.

use crate::binary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of metrics as the reference has them.
fn known() -> BTreeSet<String> {
    let page = read(&docker().join("../config/METRICS.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut names = BTreeSet::new();
    for row in rows {
        let (name, rest) = row.split_once('`').expect("a name");
        names.insert(name.to_owned());
        if rest.starts_with(" | histogram") {
            names.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        }
    }
    assert!(names.len() > 50, "{names:?}");
    names
}

fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("tidegate_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_names_only_metrics_that_exist() {
    let dashboard: Value =
        serde_json::from_str(&read(&docker().join("grafana/dashboards/tidegate.json"))).expect("JSON");
    let known = known();
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries {
        let names = named(query);
        assert!(!names.is_empty(), "a query of nothing: {query}");
        for name in names {
            assert!(known.contains(&name), "there is no {name}: {query}");
        }
    }
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "panels have numbers of their own");
}

#[test]
fn labels_that_the_dashboard_groups_by_are_those_of_the_metric() {
    let reference = read(&docker().join("../config/METRICS.md"));
    let dashboard = read(&docker().join("grafana/dashboards/tidegate.json"));
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let targets = dashboard["panels"].as_array().expect("panels").iter();
    for target in targets.flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        let query = target["expr"].as_str().expect("a query");
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        for by in query.split("by (").skip(1) {
            labels.extend(by.split(')').next().into_iter().flat_map(|list| list.split(", ")));
        }
        // Of the histogram's own making, and of the scrape.
        labels.retain(|label| !["le", "instance"].contains(label));
        for name in named(query) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let row = reference.lines().find(|line| {
                line.starts_with(&format!("| `{name}`"))
                    || base.is_some_and(|base| line.starts_with(&format!("| `{base}`")))
            });
            let row = row.unwrap_or_else(|| panic!("there is no {name}"));
            for label in &labels {
                assert!(
                    row.contains(&format!("`{label}`")),
                    "{name} has no {label}: {query}"
                );
            }
        }
    }
}

#[test]
fn the_configurations_of_the_compose_file_pass_check() {
    for file in ["gateway.toml", "app.toml"] {
        let directory = tempfile::tempdir().expect("directory");
        let secret = directory.path().join("scrape_token");
        std::fs::write(&secret, read(&docker().join("scrape_token"))).expect("written");
        let text = read(&docker().join(file))
            .replace("/run/secrets/scrape_token", &secret.display().to_string())
            .replace("/var/lib/tidegate", &directory.path().display().to_string());
        let path = directory.path().join(file);
        std::fs::write(&path, text).expect("written");
        let compose = read(&docker().join("compose.yaml"));
        let variables = [
            "TIDEGATE_ADMIN_TOKEN",
            "TIDEGATE_REGISTER_TOKEN",
            "TIDEGATE_CLUSTER_KEY",
        ];
        for name in variables {
            assert!(
                compose.contains(&format!("{name}: ")),
                "{name} comes from the compose file"
            );
        }
        let mut command = std::process::Command::new(binary());
        command.args(["check", "-c"]).arg(&path);
        command.envs(variables.map(|name| (name, "0123456789abcdef0123456789abcdef")));
        let output = command.output().expect("it runs");
        let told =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{file}: {told}");
    }
}

#[test]
fn what_is_scraped_and_mounted_is_there() {
    let compose = read(&docker().join("compose.yaml"));
    let scrape = read(&docker().join("prometheus.yml"));
    let services: BTreeSet<&str> = compose
        .split("\nservices:\n")
        .nth(1)
        .and_then(|rest| rest.split("\nvolumes:\n").next())
        .expect("services")
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split(':').next())
        .collect();
    let targets: Vec<&str> = scrape.split('"').filter(|word| word.ends_with(":9900")).collect();
    assert_eq!(targets.len(), 3, "{scrape}");
    for target in targets {
        let host = target.split(':').next().expect("a host");
        assert!(services.contains(host), "{host} is none of {services:?}");
    }
    for endpoint in ["app-1", "app-2", "app-3"] {
        assert!(services.contains(endpoint));
        assert!(read(&docker().join("gateway.toml")).contains(&format!("\"{endpoint}:8080\"")));
    }
    let mounted = compose
        .split(['"', ' ', '\n'])
        .filter(|word| word.starts_with("./"));
    let mounted: Vec<&str> = mounted.filter_map(|word| word.split(':').next()).collect();
    assert!(mounted.len() > 5, "{mounted:?}");
    for path in mounted {
        assert!(docker().join(path).exists(), "{path} is mounted and not there");
    }
}
