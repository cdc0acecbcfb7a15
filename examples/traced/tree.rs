//! Spans as a tree.

use std::{error::Error, fmt::Write as _};

struct Span<'a> {
    trace: &'a str,
    id: &'a str,
    parent: &'a str,
    text: String,
}

/// Shows the spans that the processes have written as trees, one for each trace.
///
/// # Errors
/// Fails if a line is no span.
pub(crate) fn show(lines: &str) -> Result<String, Box<dyn Error>> {
    let mut spans = Vec::new();
    for line in lines.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [trace, id, parent, process, name, method] = words[..] else {
            return Err(format!("this is no span: {line}").into());
        };
        spans.push(Span { trace, id, parent, text: format!("{name} {method} in {process}") });
    }
    let mut out = String::new();
    for root in spans.iter().filter(|span| span.parent.bytes().all(|digit| digit == b'0')) {
        writeln!(out, "trace {}", root.trace)?;
        branch(&spans, root, 1, &mut out)?;
    }
    Ok(out)
}

fn branch(
    spans: &[Span<'_>],
    span: &Span<'_>,
    depth: usize,
    out: &mut String,
) -> Result<(), Box<dyn Error>> {
    writeln!(out, "{:1$}{2}", "", 2 * depth, span.text)?;
    let children =
        spans.iter().filter(|child| (child.trace, child.parent) == (span.trace, span.id));
    children.into_iter().try_for_each(|child| branch(spans, child, depth + 1, out))
}
