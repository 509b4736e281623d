//! What the authority answers, by the rules of RFC 8555 and RFC 9773 as far as its script keeps to them.

use super::jose::{self, Signed};
use super::look;
use super::{Account, Order, Script, Shared};
use crate::backend::Reply;
use crate::message::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateSigningRequestParams, date_time_ymd};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn problem(status: u16, kind: &str, detail: &str) -> Reply {
    let body =
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    Reply::new(status, body.to_string()).header("Content-Type", "application/problem+json")
}

pub(super) fn answer(shared: &Shared, request: &Request) -> Reply {
    let scripted = shared.state().script.answers.clone();
    if let Some(reply) = scripted {
        return reply.then_close();
    }
    let host = request.header("Host").unwrap_or_default().to_owned();
    let base = format!("http://{host}");
    let reply = route(shared, request, &base);
    let mut state = shared.state();
    state.made += 1;
    let nonce = format!("nonce-{}", state.made);
    state.nonces.insert(nonce.clone());
    reply.header("Replay-Nonce", nonce).then_close()
}

fn route(shared: &Shared, request: &Request, base: &str) -> Reply {
    let parts: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["directory"]) => directory(shared, base),
        ("HEAD", ["new-nonce"]) => Reply::ok(""),
        ("GET", ["renewal-info", id]) => window(shared, id),
        ("POST", parts) => signed(shared, request, base, parts),
        _ => problem(404, "malformed", "no such resource"),
    }
}

fn directory(shared: &Shared, base: &str) -> Reply {
    let state = shared.state();
    let mut directory = json!({
        "newNonce": format!("{base}/new-nonce"),
        "newAccount": format!("{base}/new-account"),
        "newOrder": format!("{base}/new-order"),
        "revokeCert": format!("{base}/revoke"),
        "keyChange": format!("{base}/key-change"),
        "meta": { "externalAccountRequired": state.script.external.is_some() },
    });
    if state.script.window.is_some() {
        directory["renewalInfo"] = json!(format!("{base}/renewal-info"));
    }
    Reply::ok(directory.to_string())
}

fn window(shared: &Shared, id: &str) -> Reply {
    let mut state = shared.state();
    state.asked_for_window.push(id.to_owned());
    let Some((start, end)) = state.script.window else {
        return problem(404, "malformed", "no window");
    };
    let body = json!({ "suggestedWindow": { "start": rfc3339(start), "end": rfc3339(end) } });
    Reply::ok(body.to_string()).header("Retry-After", "3600")
}

fn signed(shared: &Shared, request: &Request, base: &str, parts: &[&str]) -> Reply {
    let key_of = |kid: &str| {
        let number: usize = kid.strip_prefix(&format!("{base}/account/"))?.parse().ok()?;
        let state = shared.state();
        let key = state.accounts.get(number)?.key.clone();
        (!key.is_null()).then_some((number, key))
    };
    let read = jose::read(&request.body, &format!("{base}{}", request.target), key_of);
    let signed = match read {
        Ok(signed) => signed,
        Err(jose::Fault::NoAccount) => return problem(400, "accountDoesNotExist", "no such account"),
        Err(jose::Fault::Wrong(why)) => {
            shared.state().complaints.push(why.clone());
            return problem(400, "malformed", &why);
        }
    };
    {
        let mut state = shared.state();
        let spoilt = std::mem::take(&mut state.script.spoils_nonce);
        if !state.nonces.remove(&signed.nonce) || spoilt {
            return problem(400, "badNonce", "that nonce is not one of ours");
        }
    }
    match (parts, signed.account) {
        (["new-account"], None) => new_account(shared, base, &signed),
        (["new-order"], Some(_)) => new_order(shared, base, &signed.payload),
        (["authz", order, name], Some(_)) => authorization(shared, base, number(order), name),
        (["chall", order, name, kind], Some(_)) => {
            challenge(shared, base, (number(order), name), kind, &signed)
        }
        (["order", order], Some(_)) => look_at_order(shared, base, number(order)),
        (["finalize", order], Some(_)) => finalize(shared, base, number(order), &signed.payload),
        (["cert", order], Some(_)) => {
            let certificate = shared.state().orders[number(order)].certificate.clone();
            Reply::ok(certificate.expect("certificate"))
                .header("Content-Type", "application/pem-certificate-chain")
        }
        _ => problem(403, "unauthorized", "not with this account, or no such resource"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number of ours")
}

fn new_account(shared: &Shared, base: &str, signed: &Signed) -> Reply {
    let mut state = shared.state();
    let bound = signed.payload.get("externalAccountBinding");
    let kid = match (&state.script.external, bound) {
        (None, _) => None,
        (Some(_), None) => return problem(403, "externalAccountRequired", "no external account"),
        (Some((kid, key)), Some(bound)) => {
            let url = format!("{base}/new-account");
            if let Err(why) = jose::check_binding(bound, kid, key, &url, &signed.key) {
                return problem(403, "unauthorized", &why);
            }
            Some(kid.clone())
        }
    };
    if signed.payload["termsOfServiceAgreed"] != json!(true) {
        return problem(403, "userActionRequired", "the terms were not agreed to");
    }
    let contact = signed.payload["contact"].as_array().cloned().unwrap_or_default();
    state.accounts.push(Account {
        contact: contact
            .iter()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect(),
        kid,
        key: signed.key.clone(),
    });
    let location = format!("{base}/account/{}", state.accounts.len() - 1);
    Reply::new(201, json!({ "status": "valid" }).to_string()).header("Location", location)
}

fn new_order(shared: &Shared, base: &str, payload: &Value) -> Reply {
    let mut state = shared.state();
    if let Some((status, body, after)) = &state.script.refuses {
        let reply = Reply::new(*status, body.to_string()).header("Content-Type", "application/problem+json");
        return match after {
            Some(seconds) => reply.header("Retry-After", seconds.to_string()),
            None => reply,
        };
    }
    let identifiers = payload["identifiers"].as_array().cloned().unwrap_or_default();
    let names: Vec<String> = identifiers
        .iter()
        .map(|identifier| identifier["value"].as_str().expect("a name").to_owned())
        .collect();
    let text = |key: &str| payload[key].as_str().map(str::to_owned);
    state.orders.push(Order {
        looked: names.iter().map(|name| (name.clone(), None)).collect(),
        names,
        replaces: text("replaces"),
        profile: text("profile"),
        issued: false,
        error: None,
        pondered: 0,
        certificate: None,
    });
    let number = state.orders.len() - 1;
    let location = format!("{base}/order/{number}");
    Reply::new(
        201,
        shown(&state.orders[number], number, base, &state.script).to_string(),
    )
    .header("Location", location)
}

fn shown(order: &Order, number: usize, base: &str, script: &Script) -> Value {
    let looked = || order.looked.values();
    let status = if order.error.is_some() || looked().any(|it| matches!(it, Some(Err(_)))) {
        "invalid"
    } else if order.certificate.is_some() && order.pondered >= script.ponders {
        "valid"
    } else if order.certificate.is_some() {
        "processing"
    } else if looked().all(|it| matches!(it, Some(Ok(())))) {
        "ready"
    } else {
        "pending"
    };
    let identifiers: Vec<Value> = order
        .names
        .iter()
        .map(|name| json!({ "type": "dns", "value": name }))
        .collect();
    let authorizations: Vec<String> = order
        .names
        .iter()
        .map(|name| format!("{base}/authz/{number}/{name}"))
        .collect();
    let mut shown = json!({
        "status": status,
        "identifiers": identifiers,
        "authorizations": authorizations,
        "finalize": format!("{base}/finalize/{number}"),
    });
    if status == "valid" {
        shown["certificate"] = json!(format!("{base}/cert/{number}"));
    }
    if let Some(replaces) = &order.replaces {
        shown["replaces"] = json!(replaces);
    }
    shown
}

fn look_at_order(shared: &Shared, base: &str, number: usize) -> Reply {
    let mut state = shared.state();
    if state.orders[number].certificate.is_some() {
        state.orders[number].pondered += 1;
    }
    Reply::ok(shown(&state.orders[number], number, base, &state.script).to_string())
}

fn authorization(shared: &Shared, base: &str, number: usize, name: &str) -> Reply {
    let state = shared.state();
    let looked = state.orders[number].looked[name].clone();
    let (status, error) = match &looked {
        None => ("pending", None),
        Some(Ok(())) => ("valid", None),
        Some(Err(why)) => (
            "invalid",
            Some(json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": why })),
        ),
    };
    let challenges: Vec<Value> = state
        .script
        .offers
        .iter()
        .map(|kind| {
            let mut challenge = json!({
                "type": kind,
                "url": format!("{base}/chall/{number}/{name}/{kind}"),
                "token": token(number, name),
                "status": status,
            });
            if let Some(error) = &error {
                challenge["error"] = error.clone();
            }
            challenge
        })
        .collect();
    let body =
        json!({ "status": status, "identifier": { "type": "dns", "value": name }, "challenges": challenges });
    Reply::ok(body.to_string())
}

fn token(number: usize, name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("token of order {number} for {name}"))
}

fn challenge(shared: &Shared, base: &str, of: (usize, &str), kind: &str, signed: &Signed) -> Reply {
    let (number, name) = of;
    let token = token(number, name);
    let authorization = format!("{token}.{}", jose::thumbprint(&signed.key));
    let ports = crate::eventually_some("the test says where to look", || shared.state().ports);
    let found = look::look(kind, ports, name, &token, &authorization);
    shared.state().orders[number]
        .looked
        .insert(name.to_owned(), Some(found));
    let body = json!({
        "type": kind,
        "url": format!("{base}/chall/{number}/{name}/{kind}"),
        "token": token,
        "status": "processing",
    });
    Reply::ok(body.to_string())
}

fn finalize(shared: &Shared, base: &str, number: usize, payload: &Value) -> Reply {
    let request = URL_SAFE_NO_PAD
        .decode(payload["csr"].as_str().expect("csr"))
        .expect("base64url");
    let mut state = shared.state();
    let script = state.script.clone();
    let mut wanted = CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
    if let Some(name) = &script.issues_for {
        wanted.params.subject_alt_names =
            vec![rcgen::SanType::DnsName(name.as_str().try_into().expect("name"))];
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("time");
    wanted.params.not_before = date_time_ymd(1970, 1, 1) + (now - script.backdated);
    wanted.params.not_after = date_time_ymd(1970, 1, 1) + (now + script.lifetime);
    wanted.params.use_authority_key_identifier_extension = true;
    let certificate = wanted.signed_by(&shared.ca.issuer).expect("certificate");
    let order = &mut state.orders[number];
    order.certificate = Some(format!("{}{}", certificate.pem(), shared.ca.pem));
    order.issued = true;
    Reply::ok(shown(order, number, base, &script).to_string())
}

fn rfc3339(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
    let at = date_time_ymd(1970, 1, 1) + since;
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
