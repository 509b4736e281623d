//! The session itself, and what one run of it over some ciphertext comes to.

use super::OVERHEAD;
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Which side of it we are.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl std::ops::Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Server(session) => session,
            Self::Client(session) => session,
        }
    }
}

/// Where the results of one step go.
pub(super) struct Sink<'a> {
    into: &'a mut [u8],
    filled: usize,
    /// What `into` has no room for.
    plain: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
}

impl<'a> Sink<'a> {
    pub(super) const fn new(into: &'a mut [u8], plain: &'a mut Vec<u8>, outgoing: &'a mut Vec<u8>) -> Self {
        Self {
            into,
            filled: 0,
            plain,
            outgoing,
        }
    }

    pub(super) const fn filled(&self) -> usize {
        self.filled
    }

    fn take(&mut self, payload: &[u8]) {
        let fits = payload.len().min(self.into.len() - self.filled);
        self.into[self.filled..self.filled + fits].copy_from_slice(&payload[..fits]);
        self.filled += fits;
        self.plain.extend_from_slice(&payload[fits..]);
    }
}

/// What to do when the session has nothing left to do of itself.
pub(super) enum Seal<'a> {
    Nothing,
    Data {
        plain: &'a [u8],
        out: &'a mut [u8],
        length: &'a mut usize,
    },
    CloseNotify,
}

/// What a step of the session came to.
enum Step {
    /// There may be more to do.
    Again,
    /// Nothing without more ciphertext, and nothing to seal that was not sealed.
    Rest,
    PeerClosed,
    Failed(rustls::Error),
}

/// What a run came to.
pub(super) struct Ran {
    /// How much ciphertext was used up.
    pub(super) used: usize,
    pub(super) peer_closed: bool,
    pub(super) result: Result<(), rustls::Error>,
}

impl Session {
    /// Runs it over ciphertext until there is nothing left to do.
    pub(super) fn run(&mut self, cipher: &mut [u8], sink: &mut Sink<'_>, seal: &mut Seal<'_>) -> Ran {
        let mut ran = Ran {
            used: 0,
            peer_closed: false,
            result: Ok(()),
        };
        // A session that has failed is only asked for what it has written: the alert that tells the peer why. It must
        // not see another byte, or it fails by a panic.
        while ran.result.is_ok() || self.wants_write() {
            let cipher = &mut cipher[ran.used..];
            let (used, step) = match self {
                Self::Server(session) => step(session.process_tls_records(cipher), sink, seal),
                Self::Client(session) => step(session.process_tls_records(cipher), sink, seal),
            };
            ran.used += used;
            match step {
                Step::Again => {}
                Step::Rest => break,
                Step::PeerClosed => ran.peer_closed = true,
                Step::Failed(error) if ran.result.is_ok() => {
                    ran.result = Err(error);
                    *seal = Seal::Nothing;
                }
                Step::Failed(_) => break,
            }
        }
        ran
    }
}

/// One step: returns how much ciphertext was used up.
fn step<D>(status: UnbufferedStatus<'_, '_, D>, sink: &mut Sink<'_>, seal: &mut Seal<'_>) -> (usize, Step) {
    let mut used = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (used, Step::Failed(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        used += record.discard;
                        sink.take(record.payload);
                    }
                    Err(error) => return (used, Step::Failed(error)),
                }
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = sink.outgoing.len();
            if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
                sink.outgoing.resize(at + needs.required_size, 0);
                match data.encode(&mut sink.outgoing[at..]) {
                    Ok(written) => sink.outgoing.truncate(at + written),
                    Err(_) => sink.outgoing.truncate(at),
                }
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, which leaves in its order.
            data.done();
            Step::Again
        }
        ConnectionState::WriteTraffic(mut traffic) => match seal {
            Seal::Nothing => Step::Rest,
            Seal::Data { plain, out, length } => match traffic.encrypt(plain, out) {
                Ok(written) => {
                    **length = written;
                    *seal = Seal::Nothing;
                    Step::Rest
                }
                Err(error) => Step::Failed(sealing(&error)),
            },
            Seal::CloseNotify => {
                let at = sink.outgoing.len();
                sink.outgoing.resize(at + 4 * OVERHEAD, 0);
                let written = traffic.queue_close_notify(&mut sink.outgoing[at..]).unwrap_or(0);
                sink.outgoing.truncate(at + written);
                *seal = Seal::Nothing;
                Step::Rest
            }
        },
        ConnectionState::PeerClosed => Step::PeerClosed,
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Step::Rest,
        // Early data is switched off.
        _ => Step::Failed(rustls::Error::General("early data".to_owned())),
    };
    (used, step)
}

fn sealing(error: &EncryptError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}
