//! Problems as people and as programs read them.

use super::diagnostic::{Diagnostic, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Longest line of which an excerpt is shown.
const MAX_EXCERPT_LINE: usize = 2_000;

/// Every problem with its place, an excerpt and what to do, and a count at the end. `color` adds ANSI colours.
#[must_use]
pub fn text(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, &renderer));
        out.push_str("\n\n");
    }
    let count = |severity| {
        diagnostics
            .iter()
            .filter(|told| told.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors + warnings > 0 {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        out.push_str(&format!(
            "{errors} error{}, {warnings} warning{}\n",
            plural(errors),
            plural(warnings)
        ));
    }
    out
}

fn one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = if diagnostic.key.is_empty() {
        diagnostic.message.clone()
    } else {
        format!("{}: {}", diagnostic.key, diagnostic.message)
    };
    let title = printable(&title);
    let excerpt = excerpt(diagnostic);
    let mut group: Group<'_> = level.primary_title(title.as_str()).elements(excerpt);
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(printable(hint)));
    }
    let mut told = renderer.render(&[group]);
    if let (Some(location), true) = (&diagnostic.location, excerpt_lines(diagnostic).is_none()) {
        let (file, line, column) = (location.file.display(), location.line, location.column);
        told.push_str(&format!("\n --> {file}:{line}:{column}"));
    }
    told
}

/// The line a problem stands on, with the problem marked.
fn excerpt(diagnostic: &Diagnostic) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
    let (line, span) = excerpt_lines(diagnostic)?;
    let location = diagnostic.location.as_ref()?;
    Some(
        Snippet::source(line)
            .line_start(location.line as usize)
            .path(location.file.to_string_lossy())
            .annotation(AnnotationKind::Primary.span(span)),
    )
}

/// The line with the first byte of a problem, and the part of it that the problem takes. A problem over several
/// lines is marked on its first.
fn excerpt_lines(diagnostic: &Diagnostic) -> Option<(&str, std::ops::Range<usize>)> {
    let location = diagnostic.location.as_ref()?;
    let text: &str = &location.text.0;
    let at = location.bytes.start.min(text.len());
    let (before, after) = text.split_at_checked(at)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = at + after.find('\n').unwrap_or(after.len());
    let line = text.get(start..end)?;
    let stop = location.bytes.end.clamp(at, end);
    let whole = line.len() <= MAX_EXCERPT_LINE && text.is_char_boundary(stop);
    whole.then_some((line, at - start..stop - start))
}

/// Text on one line, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Every problem as JSON: `severity`, `key`, `message`, and where known `hint`, `file`, `line`, `column`.
#[must_use]
pub fn json(diagnostics: &[Diagnostic]) -> serde_json::Value {
    diagnostics.iter().map(one_json).collect()
}

fn one_json(diagnostic: &Diagnostic) -> serde_json::Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut out = serde_json::json!({
        "severity": severity,
        "key": diagnostic.key,
        "message": diagnostic.message,
    });
    if let Some(hint) = &diagnostic.hint {
        out["hint"] = hint.as_str().into();
    }
    if let Some(location) = &diagnostic.location {
        out["file"] = location.file.display().to_string().into();
        out["line"] = location.line.into();
        out["column"] = location.column.into();
    }
    out
}
