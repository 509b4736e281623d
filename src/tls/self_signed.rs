//! A certificate that nobody vouches for, to try things out.

use jiff::civil::Date;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

/// Days that it is good for: browsers take none that is good for longer.
const DAYS: i64 = 397;

/// A certificate for these names and addresses and its key, in PEM, good from the day before `today` on.
///
/// # Errors
/// A name is none, or the provider fails.
pub fn make(names: &[String], today: Date) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Tidegate self-signed");
    let at = |days: i64| {
        let date = today.saturating_add(jiff::Span::new().days(days));
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = at(-1);
    params.not_after = at(DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
