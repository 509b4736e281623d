//! An authority that issues certificates (RFC 8555, RFC 9773) on a port of this host, in the clear. It holds its
//! clients to the protocol: signatures, nonces and URLs are checked, and each name is looked at, on ports that the
//! test names. It can be down, hang, refuse, limit, and answer nonsense.

mod answers;
mod jose;
mod look;

use crate::backend::{Backend, Reply};
use crate::tls::Ca;
pub use look::Ports;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How it behaves. A test changes it as it goes.
#[derive(Clone, Debug)]
pub struct Script {
    /// How long certificates are good for from now on, and how long they have been.
    pub lifetime: Duration,
    pub backdated: Duration,
    /// The window for renewals, in seconds of Unix time. `None`: it suggests none.
    pub window: Option<(i64, i64)>,
    /// New orders are answered with this status and problem, and told to come again after these seconds.
    pub refuses: Option<(u16, Value, Option<u64>)>,
    /// Everything is answered like this.
    pub answers: Option<Reply>,
    /// Key identifier and key of external accounts, without which there is no account.
    pub external: Option<(String, Vec<u8>)>,
    /// Challenges that are offered.
    pub offers: Vec<&'static str>,
    /// Certificates are for this name, whatever was asked for.
    pub issues_for: Option<String>,
    /// Times that an order is looked at before it has its certificate.
    pub ponders: usize,
    /// The next signed request is told that its nonce is bad.
    pub spoils_nonce: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(90 * 86_400),
            backdated: Duration::ZERO,
            window: None,
            refuses: None,
            answers: None,
            external: None,
            offers: vec!["http-01", "dns-01", "tls-alpn-01"],
            issues_for: None,
            ponders: 0,
            spoils_nonce: false,
        }
    }
}

/// An account as it was made.
#[derive(Clone, Debug)]
pub struct Account {
    pub contact: Vec<String>,
    pub kid: Option<String>,
    key: Value,
}

/// An order as it was placed.
#[derive(Clone, Debug)]
pub struct Order {
    pub names: Vec<String>,
    pub replaces: Option<String>,
    pub profile: Option<String>,
    pub issued: bool,
    error: Option<Value>,
    pondered: usize,
    certificate: Option<String>,
    /// By name.
    looked: BTreeMap<String, Option<Result<(), String>>>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    ports: Option<Ports>,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    nonces: HashSet<String>,
    made: usize,
    asked_for_window: Vec<String>,
    complaints: Vec<String>,
}

/// The authority of a test.
#[derive(Debug)]
pub struct Authority {
    backend: Backend,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ca: Ca,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("authority")
    }
}

impl Authority {
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            ca: Ca::new("fake authority"),
            state: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let backend = Backend::http(move |request| answers::answer(&serving, request));
        Self { backend, shared }
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("http://{}/directory", self.backend.address())
    }

    /// What it signs with.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.shared.ca
    }

    /// Where names are looked at. Until it is said, a look waits for it.
    pub fn looks_at(&self, ports: Ports) {
        self.shared.state().ports = Some(ports);
    }

    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.state().script);
    }

    /// Refuses connections.
    pub fn down(&self) {
        self.backend.down();
    }

    pub fn up(&self) {
        self.backend.up();
    }

    /// Knows no account any more.
    pub fn forget_accounts(&self) {
        for account in &mut self.shared.state().accounts {
            account.key = Value::Null;
        }
    }

    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        self.shared.state().accounts.clone()
    }

    #[must_use]
    pub fn orders(&self) -> Vec<Order> {
        self.shared.state().orders.clone()
    }

    /// Orders that came to a certificate.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.shared
            .state()
            .orders
            .iter()
            .filter(|order| order.issued)
            .count()
    }

    /// The certificates for which a window was asked for.
    #[must_use]
    pub fn asked_for_window(&self) -> Vec<String> {
        self.shared.state().asked_for_window.clone()
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.backend.hits()
    }

    /// What clients did that the protocol does not allow.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }
}
