//! The OpenAPI document, made from the table of endpoints.

use super::auth::{Need, role_name};
use super::endpoints::{ENDPOINTS, Endpoint};
use serde_json::{Map, Value, json};

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.verb.name()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Tidegate admin API", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": error_schema() },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters(endpoint),
        "responses": {
            "200": { "description": "the answer" },
            "default": {
                "description": "an error",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    let role = match endpoint.need {
        // No token opens it: what is said there is signed.
        Need::Nothing | Need::Cluster => None,
        Need::Role(role) => Some(role_name(role)),
        Need::Register => Some("register"),
    };
    if let Some(role) = role {
        operation["security"] = json!([{ "token": [] }]);
        operation["x-role"] = json!(role);
    }
    operation
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = endpoint.params.iter().map(|name| {
        let kind = match *name {
            "dry_run" => "boolean",
            "limit" | "since" => "integer",
            _ => "string",
        };
        json!({ "name": name, "in": "query", "schema": { "type": kind } })
    });
    in_path.chain(in_query).collect()
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": { "type": "string" },
                "message": { "type": "string" },
                "hint": { "type": ["string", "null"] },
                "request_id": { "type": "string" },
            },
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_endpoint_of_the_table_and_no_other() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, ENDPOINTS.len());
        for endpoint in ENDPOINTS {
            let operation = &paths[endpoint.path][endpoint.verb.name()];
            assert_eq!(operation["summary"], endpoint.summary, "{}", endpoint.path);
        }
    }

    #[test]
    fn whatever_changes_something_needs_more_than_a_viewer() {
        use crate::config::model::Role;
        for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.verb.name() != "get") {
            assert!(endpoint.need > Need::Role(Role::Viewer), "{}", endpoint.path);
        }
        // Which is looked at by the answer itself: nothing else may come to rely on that by mistake.
        let signed = ENDPOINTS.iter().filter(|endpoint| endpoint.need == Need::Cluster);
        assert_eq!(
            signed.map(|endpoint| endpoint.path).collect::<Vec<_>>(),
            ["/cluster/ping"]
        );
    }

    #[test]
    fn parameters_of_the_path_are_named() {
        let document = document();
        let parameters = &document["paths"]["/api/v1/upstreams/{name}"]["get"]["parameters"];
        assert_eq!(parameters[0]["name"], "name");
    }
}
