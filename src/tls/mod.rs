//! TLS as listeners terminate it: which certificate for which name, on which terms, resumed with which keys. And as
//! endpoints are spoken to.
//!
//! | module | holds |
//! |---|---|
//! | [`acme`] | certificates that the gateway gets itself, and the answers to its authority |
//! | [`hello`] | the first message of a client, read before a session is made: which name, or why it is no TLS |
//! | [`provider`] | the one crypto provider, with the suites and groups that a policy allows |
//! | [`certificate`] | a certificate chain with its key, read and checked |
//! | [`names`] | which name a certificate serves |
//! | [`store`] | the certificates of a listener by name |
//! | [`client_auth`] | what is asked of a client's own certificate, and what it says of the client |
//! | [`proof`] | until when a session may be resumed that a client's certificate was shown for |
//! | [`tickets`] | session tickets under keys that outlive reloads and are shared by all workers |
//! | [`self_signed`] | a certificate that nobody vouches for, to try things out |
//! | [`server`] | all of it compiled for one listener |
//! | [`client`] | what connections to the endpoints of one upstream have in common |
//! | [`client_verify`] | whether an endpoint is who it should be |
//! | [`client_fault`] | which way a handshake with an endpoint failed |
//!
//! Nothing here does I/O on a connection (that is `net::secure`) or runs a task.

pub mod acme;
pub mod certificate;
pub mod client;
pub mod client_auth;
pub mod client_fault;
pub mod client_verify;
pub mod hello;
pub mod names;
pub mod proof;
pub mod provider;
pub mod self_signed;
pub mod server;
pub mod store;
pub mod tickets;
