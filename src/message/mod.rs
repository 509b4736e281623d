//! The one model of an HTTP message, fed by every protocol and read by routing, policy and logging.
//!
//! A complete head is copied once into a [`head::HeadBuf`] (bytes plus offsets, no allocation per field) and
//! stays readable until the access record is written. Changes are an overlay, [`edits::Edits`]: dropped fields
//! are bits, added lines live in a small arena, and the writer copies the runs of kept lines as they stand.

pub mod bytes;
pub mod causes;
pub mod cookies;
pub mod edits;
pub mod error_page;
pub mod fields;
pub mod flatten;
pub mod framing;
pub mod grpc;
pub mod head;
pub mod hop;
pub mod host;
pub mod kept_fields;
pub mod names;
pub mod params;
pub mod path;
pub mod scan;
pub mod status;
pub mod template;
pub mod token;
