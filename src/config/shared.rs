//! The part of a configuration that the gateways of a cluster may have in common: what is served, and how. Where a
//! gateway keeps its state, what it logs, who may command it and which cluster it is in stay its own, and are read
//! from its own file.

use super::diagnostic::Diagnostic;
use super::problems::Problems;
use super::tree::{Entries, Entry};
use std::sync::Arc;

/// Sections that a shared text may have. While there is one, it has them all: what a gateway's own file says of them
/// waits, also of those that the text leaves out, or gateways would serve different things by what their files
/// happen to say.
pub const SECTIONS: [&str; 4] = ["dns", "listeners", "routes", "upstreams"];

/// A text that gateways share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedText {
    /// Stands for a file in messages.
    pub name: String,
    pub text: Arc<str>,
    /// The text is what is new, and not the file: what the file says in vain was told before.
    pub news: bool,
}

/// Puts the sections of a shared text in the place of the file's.
pub(super) fn put(own: &mut Entries, shared: Entries, text: &SharedText, problems: &mut Problems) {
    let is_shared = |name: &String| SECTIONS.contains(&name.as_str());
    let waiting: Vec<(String, Entry)> = own.extract_if(.., |name, _| is_shared(name)).collect();
    if let Some((_, first)) = waiting.first()
        && !text.news
    {
        let names: Vec<String> = waiting.iter().map(|(name, _)| format!("`{name}`")).collect();
        let told = format!(
            "{} of this file wait: {} is in force",
            names.join(", "),
            text.name
        );
        problems.add_from(Diagnostic::warning("", told), &first.key);
    }
    for (name, entry) in shared {
        let known = super::keys::table::ROOT.iter().any(|key| key.name == name);
        if known && !is_shared(&name) {
            let told = Diagnostic::error(
                &name,
                format!("`{name}` is each gateway's own and can't be shared"),
            )
            .hint(format!("a shared text has {}", SECTIONS.join(", ")));
            problems.add_from(told, &entry.key);
        } else {
            own.insert(name, entry);
        }
    }
}
