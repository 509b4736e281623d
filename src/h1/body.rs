//! Body framing.
