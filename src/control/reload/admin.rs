//! The admin listener over reloads: it stays, goes, or moves to another address.

use super::Reloader;
use crate::config::model::{Admin, ListenAddress};
use crate::control::gateway::AdminSocket;
use crate::control::listeners::{BindError, socket_address};
use crate::net::listen::{self, Address, Options};

/// Connections to the admin listener that the kernel keeps.
const ADMIN_BACKLOG: u32 = 128;

/// What a reload means for the admin listener.
pub(super) enum AdminMove {
    Stays,
    Goes,
    To(AdminSocket),
}

impl Reloader {
    pub(super) fn admin_move(&self, wanted: Option<&Admin>) -> Result<AdminMove, BindError> {
        let current = self
            .gateway
            .admin_socket()
            .borrow()
            .as_ref()
            .map(|admin| admin.written.clone());
        let Some(wanted) = wanted else {
            return Ok(if current.is_some() {
                AdminMove::Goes
            } else {
                AdminMove::Stays
            });
        };
        if current == Some(socket_address(&wanted.address)) {
            return Ok(AdminMove::Stays);
        }
        bind_admin(&wanted.address).map(AdminMove::To)
    }
}

/// Binds the admin listener.
///
/// # Errors
/// The address can't be had.
pub fn bind_admin(address: &ListenAddress) -> Result<AdminSocket, BindError> {
    let written = socket_address(address);
    let refused = |source| BindError {
        listener: "admin".to_owned(),
        address: written.clone(),
        source,
    };
    let options = Options {
        backlog: ADMIN_BACKLOG,
        mode: Some(0o600).filter(|_| is_unix(&written)),
    };
    let mut bound = listen::bind(&written, 1, options).map_err(refused)?;
    let socket = bound.sockets.remove(0);
    Ok(AdminSocket {
        written,
        bound: bound.address,
        socket,
        file: bound.file,
    })
}

fn is_unix(address: &Address) -> bool {
    matches!(address, Address::Unix(_))
}
