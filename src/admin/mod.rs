//! The HTTP shell of control: who may ask, what can be asked, JSON.
//!
//! It decides nothing and changes nothing itself: reads show [`crate::control::status`], writes become
//! [`crate::control::Command`]s. The same router serves the admin listener, where tokens say who asks, and the
//! control socket, where the kernel does.
//!
//! | file | does |
//! |---|---|
//! | [`endpoints`] | the table of everything that can be asked; router and OpenAPI document are made from it |
//! | [`auth`] | who asks, and whether they may |
//! | [`reads`], [`writes`], [`changes`], [`cluster`], [`clustering`], [`tunnels`], [`services`], [`drills`], [`published`] | the answers |
//! | [`events`] | what happened, to ask for and to follow |
//! | [`health`] | is it alive, may it have traffic |
//! | [`problem`] | errors as JSON |
//! | [`paging`] | lists, piece by piece |
//! | [`openapi`] | the document |
//! | [`server`] | sockets, connections and their bounds |

pub mod auth;
pub mod changes;
pub mod cluster;
pub mod clustering;
pub mod drills;
pub mod endpoints;
pub mod events;
mod families;
pub mod health;
pub mod nodes;
pub mod openapi;
pub mod paging;
pub mod problem;
pub mod published;
pub mod reads;
pub mod server;
pub mod services;
pub mod tunnels;
pub mod writes;

use crate::control::{Commands, Gateway};
use std::sync::Arc;

/// What the handlers work on.
#[derive(Clone, Debug)]
pub struct Api {
    pub gateway: Arc<Gateway>,
    pub commands: Commands,
}
