//! What a route becomes: its action, and what it changes in requests and answers.

use crate::config::diagnostic::Diagnostic;
use crate::config::model::{self, Action};
use crate::message::template::Template;
use crate::routing::redirect::Redirect;
use crate::routing::rewrite::PathRewrite;
use crate::routing::split::Split;
use crate::snapshot::{ActionPlan, FixedResponse, HeaderPlan, RoutePlan, Target};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) fn route_plan(
    index: usize,
    route: &model::Route,
    upstreams: &HashMap<&str, usize>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<RoutePlan>> {
    let key = format!("routes[{index}]");
    let mut targets = Vec::new();
    let action = action(&route.action, &key, upstreams, &mut targets, found);
    let rewrite = PathRewrite::build(&route.rewrite, &key).unwrap_or_else(|errors| {
        found.extend(errors);
        None
    });
    let request_headers =
        HeaderPlan::compile(&route.request_headers, &format!("{key}.request_headers"), found);
    let response_headers =
        HeaderPlan::compile(&route.response_headers, &format!("{key}.response_headers"), found);
    Some(Arc::new(RoutePlan {
        name: route.name.as_str().into(),
        action: action?,
        rewrite,
        host: route.host.clone(),
        request_headers,
        response_headers,
        timeouts: route.timeouts,
        websocket: route.websocket.clone(),
        body_limit: route.body_limit,
        upgrades: route.upgrades.clone(),
        targets,
    }))
}

fn action(
    action: &Action,
    key: &str,
    upstreams: &HashMap<&str, usize>,
    targets: &mut Vec<Target>,
    found: &mut Vec<Diagnostic>,
) -> Option<ActionPlan> {
    let mut target = |name: &str, key: String| {
        let Some(&upstream) = upstreams.get(name) else {
            found.push(Diagnostic::error(key, format!("there is no upstream `{name}`")));
            return None;
        };
        targets.push(Target { upstream });
        Some(targets.len() - 1)
    };
    match action {
        Action::Upstream(name) => {
            target(name, format!("{key}.upstream"))?;
            Some(ActionPlan::Forward(None))
        }
        Action::Split(weights) => {
            let choices: Option<Vec<_>> = weights
                .iter()
                .map(|(name, weight)| Some((target(name, format!("{key}.split.{name}"))?, *weight)))
                .collect();
            let split = Split::new(choices?);
            if split.is_none() {
                found.push(Diagnostic::error(format!("{key}.split"), "no weight is above 0"));
            }
            Some(ActionPlan::Forward(Some(split?)))
        }
        Action::Redirect { to, status } => match Redirect::build(to, *status, &format!("{key}.redirect")) {
            Ok(redirect) => Some(ActionPlan::Redirect(redirect)),
            Err(errors) => {
                found.extend(errors);
                None
            }
        },
        Action::Respond {
            status,
            body,
            headers,
        } => fixed(*status, body, headers, key, found).map(ActionPlan::Respond),
    }
}

fn fixed(
    status: u16,
    body: &str,
    headers: &BTreeMap<String, String>,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<FixedResponse> {
    let mut parse = |key: String, text: &str| {
        Template::parse(text)
            .map_err(|error| found.push(Diagnostic::error(key, error.to_string())))
            .ok()
    };
    let headers: Option<Vec<_>> = headers
        .iter()
        .map(|(name, value)| {
            Some((
                name.as_str().into(),
                parse(format!("{key}.respond.headers.{name}"), value)?,
            ))
        })
        .collect();
    let body = Template::parse_body(body)
        .map_err(|error| {
            found.push(Diagnostic::error(
                format!("{key}.respond.body"),
                error.to_string(),
            ))
        })
        .ok();
    Some(FixedResponse {
        status,
        body: body?,
        headers: headers?,
    })
}
