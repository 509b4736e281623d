//! The Host of a request in its one normal form.
