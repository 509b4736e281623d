//! Heads in.
