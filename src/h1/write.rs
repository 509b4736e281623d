//! Heads out.
