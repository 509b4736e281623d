//! Which way a handshake with an endpoint failed: the word that is counted, from rustls' own.

use super::client_verify::SelfSigned;
pub use crate::telemetry::metrics::TlsFault;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// The fault behind an error of a session.
#[must_use]
pub fn of(error: &Error) -> TlsFault {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFault::Incompatible,
        // The first bytes already are none of TLS.
        Error::InvalidMessage(_) => TlsFault::NotTls,
        _ => TlsFault::Protocol,
    }
}

/// The fault behind an error of a connection, if it is one of TLS.
#[must_use]
pub fn of_io(error: &io::Error) -> Option<TlsFault> {
    error.get_ref()?.downcast_ref().map(of)
}

fn of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::Other(other) if other.0.is::<SelfSigned>() => TlsFault::SelfSigned,
        _ => TlsFault::BadCertificate,
    }
}

/// What the endpoint says of us.
fn of_alert(alert: AlertDescription) -> TlsFault {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsFault::ClientCertificate,
        AlertDescription::UnrecognisedName => TlsFault::UnknownName,
        AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => TlsFault::Incompatible,
        _ => TlsFault::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_told_apart_by_what_they_blame() {
        for (alert, fault) in [
            (AlertDescription::CertificateRequired, TlsFault::ClientCertificate),
            (AlertDescription::UnknownCA, TlsFault::ClientCertificate),
            (AlertDescription::UnrecognisedName, TlsFault::UnknownName),
            (AlertDescription::ProtocolVersion, TlsFault::Incompatible),
            (AlertDescription::HandshakeFailure, TlsFault::Refused),
        ] {
            assert_eq!(of(&Error::AlertReceived(alert)), fault);
        }
    }

    #[test]
    fn only_errors_of_tls_have_a_fault() {
        let tls = io::Error::new(
            io::ErrorKind::InvalidData,
            Error::AlertReceived(AlertDescription::UnknownCA),
        );
        assert_eq!(of_io(&tls), Some(TlsFault::ClientCertificate));
        assert_eq!(of_io(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
