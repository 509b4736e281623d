//! JSON Schema of a configuration, for editors.

use super::form::Form;
use super::keys::table::ROOT;
use super::keys::{Key, MapKey, Presence, Shape};
use serde_json::{Map, Value, json};

const DURATION: &str = "^([0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us|ns))+$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)?(TiB|TB|GiB|GB|MiB|MB|KiB|KB|kB|B)?$";
const NAME: &str = "^[A-Za-z0-9_.-]{1,64}$";

/// The schema (2020-12). It accepts what the loader accepts as far as a schema can tell.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table(ROOT);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Tidegate configuration".into();
    schema
}

fn table(keys: &'static [Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    let mut out = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        out["required"] = required.into();
    }
    out
}

fn property(key: &'static Key) -> Value {
    let mut out = match key.shape {
        Shape::Scalar(form) => scalar(form),
        Shape::List(form) => json!({ "type": "array", "items": scalar(form) }),
        Shape::Map(of, form) => map(of, form),
        Shape::Table(keys) => table(keys),
        Shape::Named(keys, _) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME },
            "additionalProperties": table(keys),
        }),
        Shape::Tables(keys, None) => json!({ "type": "array", "items": table(keys) }),
        Shape::Tables(keys, Some(_)) => {
            json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, table(keys)] } })
        }
    };
    out["description"] = key.doc.into();
    if let Some(default) = default(key) {
        out["default"] = default;
    }
    out
}

fn map(of: MapKey, form: Form) -> Value {
    let mut out = json!({ "type": "object", "additionalProperties": scalar(form) });
    if of == MapKey::Status {
        out["propertyNames"] = json!({ "pattern": "^[45][0-9][0-9]$" });
    }
    out
}

fn default(key: &Key) -> Option<Value> {
    let Presence::Default(text) = key.presence else {
        return None;
    };
    let read = |form: Form, text: &str| {
        form.read(&form.value_of_text(text), std::path::Path::new(""))
            .ok()
            .map(|scalar| scalar.to_json())
    };
    match key.shape {
        Shape::Scalar(form) => read(form, text),
        Shape::List(form) => Some(
            text.split(',')
                .filter(|word| !word.is_empty())
                .filter_map(|word| read(form, word))
                .collect(),
        ),
        Shape::Map(..) | Shape::Table(_) | Shape::Named(..) | Shape::Tables(..) => None,
    }
}

fn scalar(form: Form) -> Value {
    match form {
        Form::Bool => json!({ "type": "boolean" }),
        Form::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Form::Workers => {
            json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
        }
        Form::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Form::Factor => {
            json!({ "anyOf": [{ "const": 0 }, { "type": "number", "minimum": 1, "maximum": 1000 }] })
        }
        Form::Duration { zero: false } => json!({ "type": "string", "pattern": DURATION }),
        Form::Duration { zero: true } => {
            json!({ "anyOf": [{ "type": "string", "pattern": DURATION }, { "const": 0 }] })
        }
        Form::Size { min, max } => json!({ "anyOf": [
            { "type": "string", "pattern": SIZE },
            { "type": "integer", "minimum": min, "maximum": max },
        ] }),
        Form::Mode => json!({ "anyOf": [
            { "type": "string", "pattern": "^(0o)?[0-7]{3,4}$" },
            { "type": "integer", "minimum": 0, "maximum": 0o777 },
        ] }),
        Form::Choice(names) => json!({ "enum": names }),
        Form::Grant => {
            json!({ "type": "string", "pattern": "^(viewer|operator|admin|register:[A-Za-z0-9_.-]{1,64})$" })
        }
        Form::Name => json!({ "type": "string", "pattern": NAME }),
        Form::Prefix | Form::Request | Form::CookiePath => json!({ "type": "string", "pattern": "^/" }),
        Form::StatusSet => json!({ "anyOf": [
            { "type": "string", "pattern": "^ *[1-5][0-9]{2}(-[1-5][0-9]{2})? *(, *[1-5][0-9]{2}(-[1-5][0-9]{2})? *)*$" },
            { "type": "integer", "minimum": 100, "maximum": 599 },
        ] }),
        Form::HashKey => json!({ "type": "string", "pattern": "^(client_ip|uri|(header|cookie|query):.+)$" }),
        Form::PathPattern => json!({ "type": "string", "pattern": "^(/|=/|~.)" }),
        Form::Body
        | Form::Word
        | Form::Path
        | Form::Glob
        | Form::Listen
        | Form::Endpoint
        | Form::HostPort
        | Form::ServiceName
        | Form::NameServer
        | Form::Cidr
        | Form::Host
        | Form::Method
        | Form::HeaderName
        | Form::CookieName
        | Form::CookieDomain
        | Form::HeaderValue
        | Form::ValuePattern
        | Form::HostHeader
        | Form::Authority
        | Form::PlainValue
        | Form::TextPattern
        | Form::AccessFormat
        | Form::Regex
        | Form::Target
        | Form::Upgrade
        | Form::Origin
        | Form::Secret
        | Form::Redis => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::walk;

    #[test]
    fn every_key_of_the_table_is_in_the_schema_and_nothing_else_is_allowed() {
        let schema = json_schema();
        walk(ROOT, &mut |pattern, key| {
            let mut at = &schema;
            for step in pattern.split('.') {
                at = match step {
                    "*" => &at["additionalProperties"],
                    _ => {
                        let name = step.trim_end_matches("[]");
                        let object = if at["items"].is_object() { &at["items"] } else { at };
                        let object = if object["anyOf"].is_array() {
                            &object["anyOf"][1]
                        } else {
                            object
                        };
                        assert_eq!(object["additionalProperties"], false, "{pattern}");
                        &object["properties"][name]
                    }
                };
            }
            assert_eq!(at["description"], key.doc, "{pattern}");
        });
    }

    #[test]
    fn defaults_are_as_the_file_would_write_them() {
        let schema = json_schema();
        let limits = &schema["properties"]["listeners"]["additionalProperties"]["properties"]["limits"];
        assert_eq!(limits["properties"]["header_bytes"]["default"], "32KiB");
        assert_eq!(limits["properties"]["headers"]["default"], 100);
        assert_eq!(
            schema["properties"]["runtime"]["properties"]["workers"]["default"],
            "auto"
        );
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
