//! Every piece of configuration in the README and among the recipes is one that the gateway takes.

use std::collections::BTreeSet;
use std::path::Path;
use testkit::Ca;

/// The pieces of TOML of a page, in order.
fn recipes(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).expect("the page");
    text.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(recipe, _)| recipe.to_owned()))
        .collect()
}

/// Upstreams that a recipe sends requests to, by the two ways to say so there.
fn upstreams(recipe: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in recipe.lines() {
        if let Some(name) = line.strip_prefix("upstream = ") {
            names.extend(name.split('"').nth(1));
        }
        if let Some(split) = line.strip_prefix("split = ") {
            let shares = split.trim_matches(['{', '}', ' ']).split(',');
            names.extend(
                shares
                    .filter_map(|share| share.split_once('='))
                    .map(|(name, _)| name.trim()),
            );
        }
    }
    names
}

/// A recipe with what the page says makes it whole: a listener, a route, and the upstreams that it names.
fn whole(recipe: &str) -> String {
    let mut text = recipe.to_owned();
    if !text.contains("[listeners.") {
        text.push_str("\n[listeners.web]\naddress = \"0.0.0.0:80\"\n");
    }
    if !text.contains("[[routes]]") {
        text.push_str("\n[[routes]]\nupstream = \"app\"\n");
    }
    let missing: Vec<String> = upstreams(&text)
        .into_iter()
        .filter(|name| !text.contains(&format!("[upstreams.{name}]")))
        .map(|name| format!("\n[upstreams.{name}]\nendpoints = [\"10.0.0.1:3000\"]\n"))
        .collect();
    text + &missing.concat()
}

#[test]
fn each_recipe_passes_check_once_it_is_whole() {
    let (readme, recipes) = (recipes("README.md"), recipes("config/RECIPES.md"));
    assert!(
        readme.len() == 1 && recipes.len() >= 8,
        "{} recipes found",
        recipes.len()
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tidegate.toml");
    // What recipes name as files.
    let (ca, own) = (Ca::default(), Ca::default().leaf(&["gateway.test"]));
    for (name, content) in [
        ("ca.pem", ca.pem()),
        ("gateway.pem", &own.chain),
        ("gateway.key", &own.key),
    ] {
        std::fs::write(directory.path().join(name), content).expect("a file");
    }
    for recipe in readme.into_iter().chain(recipes) {
        let text = whole(&recipe);
        std::fs::write(&path, &text).expect("a file");
        let mut command = testkit::cli::command(crate::binary());
        command
            .args(["check", "-c"])
            .arg(&path)
            .env("TIDEGATE_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
            .env("TIDEGATE_CLUSTER_KEY", "fedcba9876543210fedcba9876543210");
        let ran = testkit::cli::finish(command);
        assert_eq!(ran.code, Some(0), "{}{}\nof:\n{text}", ran.stdout, ran.stderr);
        assert!(
            !ran.stderr.contains("no route uses"),
            "{}\nof:\n{text}",
            ran.stderr
        );
    }
}
