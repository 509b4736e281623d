//! Hop-by-hop fields (RFC 9110 section 7.6.1).
