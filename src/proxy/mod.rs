//! The life of a request, on the workers.

pub mod worker;
