//! Things that know nothing of HTTP: tasks and time.

pub mod clock;
pub mod crew;
pub mod http_date;
pub mod seldom;
pub mod task;
