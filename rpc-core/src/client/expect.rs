//! The comparison of the functions that a client expects with those that a server has. No I/O.

use crate::{
    discover::{FunctionDescription, ServiceDescription},
    fingerprint::{agree, canonical},
    function::Signature,
};

/// Returns each difference between the `expected` functions and those of a server, in words.
pub(crate) fn differences(
    expected: &[&'static Signature],
    service: &ServiceDescription,
) -> Vec<String> {
    let compare = |signature: &&'static Signature| {
        let wanted = FunctionDescription::from(*signature);
        match service.functions.iter().find(|function| function.name == wanted.name) {
            None => vec![format!("it has no function `{}`", wanted.name)],
            Some(found) => compare(&wanted, found),
        }
    };
    expected.iter().flat_map(compare).collect()
}

fn compare(wanted: &FunctionDescription, found: &FunctionDescription) -> Vec<String> {
    let mut differences = Vec::new();
    let name = &wanted.name;
    let count = wanted.params.len().max(found.params.len());
    for index in 0..count {
        let shown = |function: &FunctionDescription| {
            let param = function.params.get(index);
            param.map(|param| format!("`{}: {}`", param.name, param.ty))
        };
        match (wanted.params.get(index), found.params.get(index)) {
            (Some(a), Some(b))
                if a.name == b.name && agree(&canonical(&a.ty), &canonical(&b.ty)) => {}
            // Either side may have optional parameters that the other does not know.
            (Some(only), None) | (None, Some(only))
                if canonical(&only.ty).starts_with("Option<") => {}
            _ => {
                let none = || "none".to_owned();
                let (wanted, found) = (shown(wanted), shown(found));
                let (wanted, found) = (wanted.unwrap_or_else(none), found.unwrap_or_else(none));
                let number = index + 1;
                differences.push(format!(
                    "parameter {number} of `{name}` is {found} there, and {wanted} here"
                ));
            }
        }
    }
    if canonical(&wanted.result) != canonical(&found.result) {
        let (wanted, found) = (&wanted.result, &found.result);
        differences.push(format!("the result of `{name}` is `{found}` there, and `{wanted}` here"));
    }
    let error = |function: &FunctionDescription| function.error.as_deref().map(canonical);
    if error(wanted) != error(found) {
        let shown = |error: Option<String>| error.map_or("none".to_owned(), |ty| format!("`{ty}`"));
        let (wanted, found) = (shown(error(wanted)), shown(error(found)));
        differences.push(format!("the error of `{name}` is {found} there, and {wanted} here"));
    }
    differences
}
