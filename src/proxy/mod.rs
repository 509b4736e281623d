//! proxy.
pub mod error_page;
