//! Black-box test tools.
