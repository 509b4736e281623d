//! The path of a request in its one normal form.
