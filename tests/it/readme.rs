//! Every piece of configuration in the README is one that the gateway takes.

use std::collections::BTreeSet;
use std::path::Path;
use testkit::Ca;

/// The pieces of TOML in the README, in order.
fn recipes() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).expect("the README");
    text.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(recipe, _)| recipe.to_owned()))
        .collect()
}

/// Upstreams that a recipe sends requests to, by the README's two ways to say so.
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

/// A recipe with what the README says makes it whole: a listener, a route, and the upstreams that it names.
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
    let recipes = recipes();
    assert!(recipes.len() >= 8, "{} recipes found", recipes.len());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tidegate.toml");
    let ca = Ca::default();
    let leaf = ca.leaf(&["www.example.com", "admin.example.com"]);
    std::fs::create_dir(directory.path().join("certs")).expect("a directory");
    for (name, text) in [
        ("site.pem", leaf.chain.as_str()),
        ("site.key", &leaf.key),
        ("clients.pem", ca.pem()),
    ] {
        std::fs::write(directory.path().join("certs").join(name), text).expect("a file");
    }
    for recipe in recipes {
        let text = whole(&recipe);
        std::fs::write(&path, &text).expect("a file");
        let mut command = testkit::cli::command(crate::binary());
        command
            .args(["check", "-c"])
            .arg(&path)
            .env("TIDEGATE_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef");
        let ran = testkit::cli::finish(command);
        assert_eq!(ran.code, Some(0), "{}{}\nof:\n{text}", ran.stdout, ran.stderr);
        assert!(
            !ran.stderr.contains("no route uses"),
            "{}\nof:\n{text}",
            ran.stderr
        );
    }
}
