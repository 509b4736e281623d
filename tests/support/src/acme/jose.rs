//! Signed requests (RFC 8555 section 6.2), checked as an authority does.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A request that is what it says.
#[derive(Debug)]
pub(super) struct Signed {
    pub payload: Value,
    /// Of the account, as JWK.
    pub key: Value,
    /// `None`: there is none yet.
    pub account: Option<usize>,
    pub nonce: String,
}

#[derive(Debug)]
pub(super) enum Fault {
    NoAccount,
    Wrong(String),
}

fn wrong(why: &str) -> Fault {
    Fault::Wrong(why.to_owned())
}

fn decode(value: &Value) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(value.as_str()?).ok()
}

fn object(value: &Value) -> Option<Value> {
    serde_json::from_slice(&decode(value)?).ok()
}

/// Reads a request for `url`; `key_of` knows accounts by their URL.
pub(super) fn read(
    body: &[u8],
    url: &str,
    key_of: impl FnOnce(&str) -> Option<(usize, Value)>,
) -> Result<Signed, Fault> {
    let outer: Value =
        serde_json::from_slice(body).map_err(|error| Fault::Wrong(format!("no JSON: {error}")))?;
    let header = object(&outer["protected"]).ok_or_else(|| wrong("no protected header"))?;
    if header["alg"] != json!("ES256") {
        return Err(wrong("another algorithm than ES256"));
    }
    if header["url"] != json!(url) {
        return Err(Fault::Wrong(format!(
            "signed for {}, sent to {url}",
            header["url"]
        )));
    }
    let nonce = header["nonce"]
        .as_str()
        .ok_or_else(|| wrong("no nonce"))?
        .to_owned();
    let (account, key) = match (header.get("kid").and_then(Value::as_str), header.get("jwk")) {
        (Some(kid), None) => {
            let (account, key) = key_of(kid).ok_or(Fault::NoAccount)?;
            (Some(account), key)
        }
        (None, Some(key)) => (None, key.clone()),
        _ => return Err(wrong("neither kid nor jwk, or both")),
    };
    let mut point = vec![4];
    point.extend(decode(&key["x"]).ok_or_else(|| wrong("no x"))?);
    point.extend(decode(&key["y"]).ok_or_else(|| wrong("no y"))?);
    let text = |part: &str| outer[part].as_str().unwrap_or_default().to_owned();
    let signature = decode(&outer["signature"]).ok_or_else(|| wrong("no signature"))?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .verify(
            format!("{}.{}", text("protected"), text("payload")).as_bytes(),
            &signature,
        )
        .map_err(|_| wrong("the signature is wrong"))?;
    let payload = if text("payload").is_empty() {
        Value::Null
    } else {
        object(&outer["payload"]).ok_or_else(|| wrong("the payload is no JSON"))?
    };
    Ok(Signed {
        payload,
        key,
        account,
        nonce,
    })
}

/// Checks an external account's binding (RFC 8555 section 7.3.4).
pub(super) fn check_binding(
    bound: &Value,
    kid: &str,
    key: &[u8],
    url: &str,
    account: &Value,
) -> Result<(), String> {
    let header = object(&bound["protected"]).ok_or("no protected header")?;
    if header != json!({ "alg": "HS256", "kid": kid, "url": url }) {
        return Err(format!("the binding is for something else: {header}"));
    }
    if object(&bound["payload"]).as_ref() != Some(account) {
        return Err("the binding is for another key".to_owned());
    }
    let text = |part: &str| bound[part].as_str().unwrap_or_default();
    let signature = decode(&bound["signature"]).ok_or("no signature")?;
    let signed = format!("{}.{}", text("protected"), text("payload"));
    hmac::verify(
        &hmac::Key::new(hmac::HMAC_SHA256, key),
        signed.as_bytes(),
        &signature,
    )
    .map_err(|_| "the binding's signature is wrong".to_owned())
}

/// RFC 7638.
pub(super) fn thumbprint(key: &Value) -> String {
    let canonical = format!(
        r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
        key["crv"], key["kty"], key["x"], key["y"]
    );
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}
