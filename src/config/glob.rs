//! Paths with `*` and `?`.

use std::path::{Component, Path, PathBuf};

/// Directory entries looked at for one pattern.
const MAX_ENTRIES: usize = 100_000;

/// What a pattern names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// In the order of their names, directory by directory.
    pub paths: Vec<PathBuf>,
    /// Directories that were looked through.
    pub directories: Vec<PathBuf>,
}

/// Whether a text has a `*` or `?`.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Finds what a pattern names, starting from `base`.
pub fn expand(base: &Path, pattern: &str) -> std::io::Result<Matches> {
    let mut found = Matches {
        paths: vec![base.to_owned()],
        directories: Vec::new(),
    };
    let mut looked_at = 0;
    for component in Path::new(pattern).components() {
        let text = match component {
            Component::Normal(text) => text.to_str().filter(|text| is_pattern(text)),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        };
        let Some(text) = text else {
            found.paths.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let mut next = Vec::new();
        for directory in std::mem::take(&mut found.paths) {
            found.directories.push(directory.clone());
            let mut names = names_in(&directory, &mut looked_at)?;
            names.retain(|name| matches(text, name));
            names.sort();
            next.extend(names.into_iter().map(|name| directory.join(name)));
        }
        found.paths = next;
    }
    Ok(found)
}

/// Names in a directory; none if there is no such directory, which a pattern may name before it is made.
fn names_in(directory: &Path, looked_at: &mut usize) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        *looked_at += 1;
        if *looked_at > MAX_ENTRIES {
            return Err(std::io::Error::other(format!(
                "more than {MAX_ENTRIES} directory entries"
            )));
        }
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Whether a name fits a pattern. A leading dot is only matched by a dot: Kubernetes keeps old versions of
/// mounted files in such directories.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last star and how much of the name it has taken: the only place ever gone back to.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_parts_of_names() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("a?c", "abc"),
            ("*", "x"),
            ("a*b*c", "aXbYbZc"),
            ("**", "a"),
            (".*", ".a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.toml", "a.tom"),
            ("*.toml", ".toml"),
            ("*", "..data"),
            ("a?c", "ac"),
            ("a*b", "abc"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(
            !matches(&"*a".repeat(50), &"a".repeat(49)),
            "and in no more than quadratic time"
        );
    }

    #[test]
    fn expansion_is_sorted_and_says_where_it_looked() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/2.toml", "b/1.toml", "a/9.toml", "a/.hidden.toml", "a/readme"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = expand(root.path(), "*/*.toml").unwrap();
        let names = ["a/9.toml", "b/1.toml", "b/2.toml"].map(|name| root.path().join(name));
        assert_eq!(found.paths, names);
        assert_eq!(
            found.directories,
            ["", "a", "b"].map(|name| root.path().join(name))
        );
        assert_eq!(
            expand(root.path(), "none/*.toml").unwrap().paths,
            Vec::<PathBuf>::new()
        );
    }
}
