//! Gateways among each other: one [`Bus`] with two bodies, in this process alone or over Redis, and who is there.
//!
//! Nothing in here is on the way of a request: announcements are put into a bounded queue, and every operation on
//! what is shared has a deadline and an error that says why. What gateways need to route is always their own.
//!
//! | file | does |
//! |---|---|
//! | [`bus`] | the handle that everybody holds: announce, listen, and what is shared |
//! | [`counters`] | what happened on it, in numbers |
//! | [`state`] | whether the bus works, since when, and why not |
//! | [`names`] | node ids, and the names of keys and channels |
//! | [`store`] | what operations take, give, and fail with |
//! | [`configs`] | the configuration that is shared, and its versions before |
//! | [`listener`] | announcements on their way to those who listen |
//! | [`embedded`] | the body for a cluster of one |
//! | [`envelope`] | an announcement as bytes |
//! | [`window`] | what was heard twice, and what was missed |
//! | [`redis`] | the body over Redis |
//! | [`membership`] | who is there: joins, leaves, suspicions |
//! | [`ping`] | whether a gateway lives, asked of itself: question and answer as bytes |
//! | [`record`] | what a node tells of itself |
//! | [`speech`] | which version of announcements is spoken |
//! | [`limits`] | requests counted against limits, here or on all gateways together |

pub mod bus;
pub mod configs;
pub mod counters;
pub mod embedded;
pub mod envelope;
pub mod limits;
pub mod listener;
pub mod membership;
pub mod names;
pub mod ping;
pub mod record;
pub mod redis;
pub mod speech;
pub mod state;
pub mod store;
pub mod window;

pub use bus::{Bus, Topic};
pub use listener::{Heard, Listener, Message};
pub use names::NodeId;
pub use state::{BusState, Condition, Reason};
pub use store::StoreError;
