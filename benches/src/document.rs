//! Writes the report and the chart into `docs/`. In the document, only the text between the two
//! markers changes.

use std::{fs, path::Path};

use crate::{Failure, chart, results::Results};

const BEGIN: &str = "<!-- table -->\n";
const END: &str = "<!-- end of table -->";

/// Replaces the tables in `docs/PERFORMANCE.md`, and the chart beside it.
pub(crate) fn write(report: &str, results: &Results) -> Result<(), Failure> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let path = docs.join("PERFORMANCE.md");
    let document = fs::read_to_string(&path)?;
    let mut table = report.to_owned();
    if let Some(svg) = chart::chart(results)? {
        fs::write(docs.join("performance.svg"), svg)?;
        table.insert_str(0, "![calls per second of each contestant](performance.svg)\n\n");
    }
    let document = replaced(&document, &table).ok_or("docs/PERFORMANCE.md has lost its markers")?;
    Ok(fs::write(path, document)?)
}

/// Returns the document with the report between its markers, or `None` if a marker is missing.
fn replaced(document: &str, report: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{report}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_outside_the_markers_is_kept() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter");
        assert_eq!(
            replaced(&document, "new\n").unwrap(),
            format!("before\n{BEGIN}new\n{END}\nafter")
        );
        assert!(replaced("no markers", "").is_none());
    }
}
