//! How long a body is, and who says so (RFC 9112 section 6).
