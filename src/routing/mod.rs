//! The route table: which route serves a request.
