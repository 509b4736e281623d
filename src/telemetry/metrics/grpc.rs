//! How calls of gRPC ended.

use super::series::Cells;
use crate::message::grpc::Code;

/// Label of calls whose answer ended without a status.
const MISSING: &str = "missing";
const LABELS: usize = Code::ALL.len() + 1;

/// Counts by status.
#[derive(Debug, Default)]
pub struct PerGrpcStatus(pub(super) Cells<LABELS>);

impl PerGrpcStatus {
    /// `None`: there was no status.
    pub fn inc(&self, status: Option<Code>) {
        let place = status.map_or(LABELS - 1, |code| usize::from(code.number()));
        self.0.0[place].inc();
    }

    /// Name and count of each that was counted at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Code::ALL
            .iter()
            .map(|code| code.name())
            .chain([MISSING])
            .zip(self.0.values())
            .filter(|(_, n)| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_counted_under_its_name() {
        let counts = PerGrpcStatus::default();
        for code in Code::ALL {
            counts.inc(Some(*code));
        }
        counts.inc(None);
        counts.inc(Some(Code::Unavailable));
        let counted: Vec<_> = counts.iter().collect();
        assert_eq!((counted.len(), counted[0]), (18, ("OK", 1)));
        assert_eq!((counted[14], counted[17]), (("UNAVAILABLE", 2), ("missing", 1)));
    }
}
