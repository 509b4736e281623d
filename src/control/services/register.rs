//! Registering and taking away, by somebody: who may, and what is written down of it. Heartbeats are no news and
//! leave nothing.

use super::{Condition, Instance, Refused, Registered, Service};
use crate::config::model::{DiscoverFrom, Grant};
use crate::control::command::{Action, Actor, Command, Outcome};
use crate::control::gateway::Gateway;
use crate::telemetry::events::Severity;
use jiff::Timestamp;
use serde_json::json;

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this token registers the service {own:?}, not {asked:?}")]
    NotYours { own: String, asked: String },
}

/// The only service that this actor may register; `None`: any.
#[must_use]
pub fn scope(gateway: &Gateway, actor: &Actor) -> Option<String> {
    let Actor::Token {
        role: Grant::Register(upstream),
        ..
    } = actor
    else {
        return None;
    };
    let running = gateway.running.load();
    let discover = running
        .config
        .upstreams
        .get(upstream)
        .and_then(|upstream| upstream.discover.as_ref());
    Some(match discover.map(|discover| &discover.from) {
        Some(DiscoverFrom::Registry(services)) => services.service.clone(),
        Some(DiscoverFrom::Dns(_)) | None => upstream.clone(),
    })
}

fn allowed(gateway: &Gateway, actor: &Actor, service: &str) -> Result<(), Denied> {
    match scope(gateway, actor) {
        Some(own) if own != service => Err(Denied::NotYours {
            own,
            asked: service.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Registers, or renews with what is said now.
///
/// # Errors
/// It may not, or can't be.
pub fn register(
    gateway: &Gateway,
    actor: &Actor,
    service: Service,
    dry_run: bool,
) -> Result<(Registered, Option<Instance>), Denied> {
    allowed(gateway, actor, &service.name)?;
    let told = service.to_string();
    let (name, id) = (service.name.clone(), service.id.clone());
    if dry_run {
        service.check()?;
        let known = gateway.services.get(&id);
        let what = match known {
            None => Registered::New,
            Some(known) if known.service == service => Registered::Renewed,
            Some(_) => Registered::Changed,
        };
        return Ok((what, None));
    }
    let (what, instance) = gateway
        .services
        .register(service, &actor.to_string(), Timestamp::now())?;
    if what != Registered::Renewed {
        let action = Action::RegisterService {
            service: name,
            id,
            told,
            anew: what == Registered::New,
        };
        write_down(gateway, actor, action);
    }
    Ok((what, Some(instance)))
}

/// Renews, perhaps with another health.
///
/// # Errors
/// It may not, or there is nothing to renew.
pub fn renew(
    gateway: &Gateway,
    actor: &Actor,
    id: &str,
    health: Option<Condition>,
) -> Result<Instance, Denied> {
    known(gateway, actor, id)?;
    let (instance, before) = gateway.services.renew(id, health, Timestamp::now())?;
    let service = &instance.service;
    if service.health != before {
        let severity = match service.health {
            Condition::Healthy => Severity::Info,
            Condition::Warning | Condition::Critical => Severity::Warning,
        };
        gateway.journal.events.post(
            "service.health_changed",
            severity,
            format!("{}/{id}", service.name),
            format!(
                "it says it is {}, and was {}",
                service.health.name(),
                before.name()
            ),
            json!({ "from": before, "to": service.health }),
        );
    }
    Ok(instance)
}

/// Takes a registration away.
///
/// # Errors
/// It may not, or there is none.
pub fn deregister(gateway: &Gateway, actor: &Actor, id: &str, dry_run: bool) -> Result<Instance, Denied> {
    let instance = known(gateway, actor, id)?;
    if dry_run {
        return Ok(instance);
    }
    let instance = gateway.services.deregister(id)?;
    let service = instance.service.name.clone();
    let action = Action::DeregisterService {
        service,
        id: id.to_owned(),
    };
    write_down(gateway, actor, action);
    Ok(instance)
}

fn known(gateway: &Gateway, actor: &Actor, id: &str) -> Result<Instance, Denied> {
    let known = gateway.services.get(id);
    let known = known.ok_or_else(|| Refused::Unknown(id.to_owned()))?;
    allowed(gateway, actor, &known.service.name)?;
    Ok(known)
}

fn write_down(gateway: &Gateway, actor: &Actor, action: Action) {
    let command = Command {
        actor: actor.clone(),
        dry_run: false,
        action,
    };
    gateway.journal.record(&command, &Outcome::Done);
}
