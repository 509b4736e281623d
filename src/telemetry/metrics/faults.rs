//! Ways in which the beginning of a connection goes wrong: a client's, and one to an endpoint.

use super::series::Cells;

/// What was wrong with a PROXY protocol header, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// The peer is not one of those that may send it.
    Untrusted,
    /// Something else came.
    Missing,
    /// A rule of the protocol is broken.
    Malformed,
    /// It is longer than allowed.
    TooLarge,
    /// Its checksum is not that of its bytes.
    Checksum,
    /// It did not come in time.
    Timeout,
    /// The connection ended within it.
    Ended,
    /// The connection ended before its first byte, as checks of a port do it.
    Empty,
}

impl HeaderFault {
    pub const ALL: [Self; 8] = [
        Self::Untrusted,
        Self::Missing,
        Self::Malformed,
        Self::TooLarge,
        Self::Checksum,
        Self::Timeout,
        Self::Ended,
        Self::Empty,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Checksum => "checksum",
            Self::Timeout => "timeout",
            Self::Ended => "ended",
            Self::Empty => "empty",
        }
    }
}

/// Counts by [`HeaderFault`].
#[derive(Debug, Default)]
pub struct PerHeaderFault(pub(super) Cells<{ HeaderFault::ALL.len() }>);

impl PerHeaderFault {
    pub fn inc(&self, what: HeaderFault) {
        self.0.0[what as usize].inc();
    }

    /// Kind and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HeaderFault::ALL
            .into_iter()
            .map(HeaderFault::name)
            .zip(self.0.values())
            .filter(|(_, n)| *n > 0)
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

macro_rules! tls_faults {
    ($( $variant:ident $name:literal $text:literal; )*) => {
        /// Which way a TLS handshake with an endpoint failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum TlsFault { $( #[doc = $text] $variant, )* }

        impl TlsFault {
            pub const ALL: [Self; [$( $name ),*].len()] = [ $( Self::$variant ),* ];

            #[must_use]
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => $name ),* } }

            /// For the log.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $( Self::$variant => $text ),* } }
        }
    };
}

tls_faults! {
    Expired "expired" "the endpoint's certificate has expired";
    NotYetValid "not_yet_valid" "the endpoint's certificate is not valid yet";
    SelfSigned "self_signed" "the endpoint's certificate is signed by itself, and not trusted";
    UnknownIssuer "unknown_issuer" "the endpoint's certificate is of an issuer that is not trusted";
    WrongName "wrong_name" "the endpoint's certificate is for another name";
    BadCertificate "bad_certificate" "the endpoint's certificate cannot be used";
    ClientCertificate "client_certificate" "the endpoint wants another client certificate, or one at all";
    UnknownName "unknown_name" "the endpoint does not know the server name that it is asked for";
    Incompatible "incompatible" "the endpoint speaks no version or cipher of TLS that the gateway speaks";
    Refused "refused" "the endpoint refused the TLS handshake";
    NotTls "not_tls" "the endpoint does not speak TLS";
    Protocol "protocol" "the endpoint broke the rules of TLS";
    Closed "closed" "the endpoint closed the connection within the TLS handshake";
    Timeout "timeout" "the TLS handshake with the endpoint took too long";
}

/// Counts by [`TlsFault`].
#[derive(Debug, Default)]
pub struct PerTlsFault(pub(super) Cells<{ TlsFault::ALL.len() }>);

impl PerTlsFault {
    pub fn inc(&self, what: TlsFault) {
        self.0.0[what as usize].inc();
    }

    /// Kind and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = TlsFault::ALL.into_iter().map(TlsFault::name);
        names.zip(self.0.values()).filter(|(_, n)| *n > 0)
    }
}
