//! A configuration written out again.

use super::*;

#[test]
fn every_value_says_where_it_came_from() {
    let text = GOOD.replace("endpoints", "balance = 'weighted'\nendpoints");
    let env = environment(&[("TIDEGATE_LOG__LEVEL", "debug")]);
    let loaded = load_text("test.toml", &text, &env).unwrap();
    let shown = effective::toml(&loaded);
    let squeezed: Vec<String> = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "level = \"debug\" # env TIDEGATE_LOG__LEVEL",
        "format = \"text\" # default",
        "[listeners.web] # test.toml:1",
        "address = \"127.0.0.1:8080\" # test.toml:2",
        "header_bytes = \"32KiB\" # default",
        "keep_alive = \"75s\" # default",
        "balance = \"weighted\" # test.toml:6",
        "[[routes]] # test.toml:3",
    ] {
        assert!(
            squeezed.iter().any(|shown| shown == line),
            "{line} is not in\n{shown}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&effective::json(&loaded)).unwrap();
    assert_eq!(json["config"]["upstreams"]["app"]["balance"], "weighted");
    assert_eq!(json["config"]["listeners"]["web"]["limits"]["headers"], 100);
    assert_eq!(json["origins"]["upstreams.app.balance"], "test.toml:6");
    assert_eq!(json["origins"]["log.level"], "env TIDEGATE_LOG__LEVEL");
    assert_eq!(json["origins"]["runtime.workers"], "default");
}

#[test]
fn only_what_was_written_can_be_shown_too() {
    let loaded = load_good(GOOD);
    let shown = effective::written_toml(&loaded);
    assert!(
        !shown.contains("default") && !shown.contains("backlog"),
        "{shown}"
    );
    assert_eq!(load_good(&shown).config, loaded.config);
    let json: serde_json::Value = serde_json::from_str(&effective::written_json(&loaded)).unwrap();
    assert_eq!(
        json["config"]["listeners"]["web"],
        serde_json::json!({ "address": "127.0.0.1:8080" })
    );
}

#[test]
fn references_to_secrets_are_shown_and_secrets_are_not() {
    let text = "tokens = [{ name = 'a', token = 'env:T' }, { name = 'b', token = 'hunter3' }]";
    let text = format!("{GOOD}[admin]\naddress = '127.0.0.1:9900'\n{text}\n");
    let loaded = load_text("test.toml", &text, &environment(&[("T", "hunter2")])).unwrap();
    for shown in [
        effective::toml(&loaded),
        effective::json(&loaded),
        effective::written_toml(&loaded),
    ] {
        assert!(shown.contains("env:T") && shown.contains("***"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }
}

#[test]
fn awkward_texts_survive_the_way_out_and_in() {
    let body = "\"quotes\" \\back\\ tab\tnewline\nönd ${host} \u{7f}\u{1}'''";
    let mut quoted = String::new();
    path::push_text(&mut quoted, body);
    let text = GOOD.replace(
        "upstream = 'app'",
        &format!("respond = {{ body = {quoted} }}\nquery = {{ 'a b.c' = '~^x\"$' }}"),
    );
    let loaded = load_good(&text);
    let model::Action::Respond { body: read, .. } = &loaded.config.routes[0].action else {
        panic!()
    };
    assert_eq!(read, body);
    assert_eq!(load_good(&effective::toml(&loaded)).config, loaded.config);
}
