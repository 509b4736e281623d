//! What a version 2 header tells beside the addresses: values with a type and a length before each.

/// Types of values that are known here (the protocol's section 2.2); others are kept and not looked into.
#[derive(Debug)]
pub struct Tlv;

impl Tlv {
    /// Protocol that was negotiated above TLS.
    pub const ALPN: u8 = 0x01;
    /// Host name that the client asked for, as in SNI.
    pub const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    /// What the sender knows the connection by.
    pub const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    const SSL_VERSION: u8 = 0x21;
    const SSL_CN: u8 = 0x22;
    const SSL_CIPHER: u8 = 0x23;
}

/// The values in a row, or the rule that the first bad one breaks.
pub(super) fn each(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), &'static str>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut bytes);
        let Some((&[kind, high, low], rest)) = rest.split_first_chunk::<3>() else {
            return Some(Err("a value has a type and a length before it"));
        };
        match rest.split_at_checked(u16::from_be_bytes([high, low]).into()) {
            Some((value, behind)) => {
                bytes = behind;
                Some(Ok((kind, value)))
            }
            None => Some(Err("values end where the header ends")),
        }
    })
}

/// The TLS of a client's connection to the proxy, as that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls<'a> {
    client: u8,
    verify: u32,
    values: &'a [u8],
}

impl<'a> Tls<'a> {
    /// Flags of `client`: TLS was spoken; the client gave a certificate, on this connection or in this session.
    const SPOKEN: u8 = 0x01;
    const CERTIFICATE: u8 = 0x02 | 0x04;

    /// `None` where lengths do not fit.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let (&[client, a, b, c, d], values) = value.split_first_chunk::<5>()?;
        each(values).all(|found| found.is_ok()).then_some(Self {
            client,
            verify: u32::from_be_bytes([a, b, c, d]),
            values,
        })
    }

    pub(super) const fn is_spoken(&self) -> bool {
        self.client & Self::SPOKEN != 0
    }

    /// Whether the client gave a certificate that the proxy found good.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.client & Self::CERTIFICATE != 0 && self.verify == 0
    }

    /// Such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'a [u8]> {
        self.value(Tlv::SSL_VERSION)
    }

    /// Common name of the client's certificate.
    #[must_use]
    pub fn common_name(&self) -> Option<&'a [u8]> {
        self.value(Tlv::SSL_CN)
    }

    #[must_use]
    pub fn cipher(&self) -> Option<&'a [u8]> {
        self.value(Tlv::SSL_CIPHER)
    }

    fn value(&self, kind: u8) -> Option<&'a [u8]> {
        each(self.values)
            .flatten()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }
}
