//! Things that know nothing of HTTP: tasks and time.

pub mod task;
