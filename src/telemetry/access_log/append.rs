//! Appending lines so that the file keeps whole ones, also when the disk takes only half.

use std::io::{self, ErrorKind, Write};

/// The rest of a line of which the beginning is in the file already. Written before anything else, so that
/// the line gets whole once the disk takes bytes again.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub(super) bytes: u64,
    /// Lines that are in the file in full; a line finished by its tail counts now.
    pub(super) written: u64,
    /// Lines that are lost.
    pub(super) failed: u64,
    pub(super) error: Option<io::Error>,
}

impl Tail {
    /// Whether the file ends within a line.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// Gives up on the open line, for a file that is being left. The number of lines lost.
    pub(super) fn abandon(&mut self) -> u64 {
        let lost = u64::from(self.is_open());
        self.0.clear();
        lost
    }

    /// Appends `lines`, each of which ends with a line feed.
    pub(super) fn append(&mut self, out: &mut impl Write, lines: &[u8]) -> Appended {
        let mut result = Appended::default();
        if self.is_open() {
            let (taken, error) = write_all(out, &self.0);
            self.0.drain(..taken);
            result.bytes += taken as u64;
            if error.is_some() {
                result.failed = count_lines(lines);
                result.error = error;
                return result;
            }
            result.written = 1;
        }
        let (taken, error) = write_all(out, lines);
        let (done, lost) = lines.split_at(taken);
        result.bytes += taken as u64;
        result.written += count_lines(done);
        result.failed = count_lines(lost);
        result.error = error;
        if done.last().is_some_and(|b| *b != b'\n') {
            let end = memchr::memchr(b'\n', lost).map_or(lost.len(), |at| at + 1);
            self.0.extend_from_slice(&lost[..end]);
            result.failed -= 1;
        }
        result
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Writes until all is written or something is wrong; how much was written either way.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut taken = 0;
    while taken < bytes.len() {
        match out.write(&bytes[taken..]) {
            Ok(0) => return (taken, Some(ErrorKind::WriteZero.into())),
            Ok(n) => taken += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (taken, Some(e)),
        }
    }
    (taken, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk that takes so many bytes per call, then fails, then takes again.
    struct Disk {
        content: Vec<u8>,
        script: Vec<Option<usize>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.script.pop() {
                Some(None) => Err(ErrorKind::StorageFull.into()),
                taken => {
                    let n = taken.flatten().unwrap_or(bytes.len()).clamp(1, bytes.len());
                    self.content.extend_from_slice(&bytes[..n]);
                    Ok(n)
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn lines_are_whole_and_counted_whatever_the_disk_does(
            batches in prop::collection::vec(prop::collection::vec("[a-z]{0,9}", 1..6), 1..12),
            script in prop::collection::vec(prop::option::weighted(0.7, 1_usize..20), 0..40),
        ) {
            let mut disk = Disk { content: Vec::new(), script };
            let mut tail = Tail::default();
            let (mut written, mut failed) = (0, 0);
            let mut sent: Vec<String> = Vec::new();
            let numbered = batches.iter().enumerate().map(|(b, lines)| -> Vec<String> {
                lines.iter().enumerate().map(|(i, line)| format!("{b}.{i}{line}\n")).collect()
            });
            // The last batch meets a sound disk.
            for lines in numbered.chain([vec!["end\n".to_owned()]]) {
                if lines[0] == "end\n" {
                    disk.script.clear();
                }
                let appended = tail.append(&mut disk, lines.concat().as_bytes());
                written += appended.written;
                failed += appended.failed;
                sent.extend(lines);
            }
            let content = String::from_utf8(disk.content).unwrap();
            prop_assert!(!tail.is_open() && content.ends_with("end\n"));
            let mut expected = sent.iter();
            for line in content.split_inclusive('\n') {
                prop_assert!(expected.any(|l| l == line), "{:?} is no line, or out of order", line);
            }
            prop_assert_eq!(written, content.lines().count() as u64);
            prop_assert_eq!(written + failed, sent.len() as u64);
        }
    }

    #[test]
    fn an_abandoned_line_is_a_lost_one() {
        let mut disk = Disk {
            content: Vec::new(),
            script: vec![None, Some(3)],
        };
        let mut tail = Tail::default();
        let appended = tail.append(&mut disk, b"hello\n");
        assert_eq!((appended.written, appended.failed, appended.bytes), (0, 0, 3));
        assert!(appended.error.is_some());
        assert_eq!(tail.abandon(), 1);
        assert_eq!(tail.abandon(), 0);
    }
}
