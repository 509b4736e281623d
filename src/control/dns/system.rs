//! The asker for the configuration in force and the system's files as they are now.

use super::answer::LookupError;
use super::lookup::Asker;
use crate::config::model::Dns;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The system's name servers and search domains.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// As much as is read of a file; blocklists of a million hosts belong elsewhere.
const MAX_FILE: u64 = 4 << 20;

/// When a file was changed; `None` for one that is not there.
type Stamp = Option<SystemTime>;

/// Makes an asker anew when what it was made of has changed.
#[derive(Debug, Default)]
pub(super) struct System {
    made: Option<(Dns, [Stamp; 2], Arc<Asker>)>,
}

impl System {
    /// Reads the files only when they have changed.
    ///
    /// # Errors
    /// No resolver can be made of this.
    pub(super) fn asker(&mut self, dns: &Dns) -> Result<Arc<Asker>, LookupError> {
        let stamps = [stamp(Path::new(RESOLV_CONF)), stamp(&dns.hosts_file)];
        if let Some((made_of, seen, asker)) = &self.made
            && (made_of, seen) == (dns, &stamps)
        {
            return Ok(Arc::clone(asker));
        }
        let (resolv_conf, hosts) = (text(Path::new(RESOLV_CONF)), text(&dns.hosts_file));
        let asker = Arc::new(Asker::new(dns, &resolv_conf, &hosts)?);
        self.made = Some((dns.clone(), stamps, Arc::clone(&asker)));
        Ok(asker)
    }
}

/// What can be read of a file; one that is not there says nothing.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), %error, "not read");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
