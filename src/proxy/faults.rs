//! Faults on request, for tests: only with the cargo feature `faults`, never in a release.
//!
//! `X-Tidegate-Fault: panic` panics in the connection's task; `X-Tidegate-Fault: stall=15s` keeps the whole worker
//! from turning for so long.

use super::context::RequestContext;
use std::time::Duration;

const HEADER: &[u8] = b"x-tidegate-fault";

/// Does what the request asks for.
#[allow(clippy::panic)]
pub(super) fn inject(context: &RequestContext) {
    let Some(fault) = context
        .request
        .as_ref()
        .and_then(|head| head.buf.find(HEADER).next())
    else {
        return;
    };
    let fault = String::from_utf8_lossy(fault);
    if fault == "panic" {
        panic!("a test asked for it");
    }
    let stall = fault
        .strip_prefix("stall=")
        .and_then(|time| time.strip_suffix('s'))
        .and_then(|time| time.parse().ok());
    if let Some(seconds) = stall {
        std::thread::sleep(Duration::from_secs(seconds));
    }
}
