//! The fingerprint of a function: a short text that is the same on both sides if they agree about
//! its name, its parameters, its result and its error.
//!
//! Types are compared as they are written, after what makes no difference on the wire was taken
//! away: paths, references, lifetimes and smart pointers. So `&str` and `String` are the same, and
//! so are `&[u8]`, `Vec<u8>` and `Bytes` as a parameter. An alias counts as a type of its own.
//!
//! Inside other types, `&[u8]` stays: its function takes only `bin`, which is not what a `Vec<u8>`
//! is there.

use crate::{discover::FunctionDescription, util::fnv};

/// Wrappers that leave no trace on the wire.
const TRANSPARENT: [&str; 4] = ["Arc", "Box", "Cow", "Rc"];
/// The type that stands for others with the same bytes.
const SAME: [(&str, &str); 3] = [("str", "String"), ("Bytes", "Vec<u8>"), ("ByteBuf", "Vec<u8>")];

/// Bytes that a function borrows, and bytes that it owns.
const BORROWED: &str = "&[u8]";
const OWNED: &str = "Vec<u8>";

/// Returns true if a caller that declares the type `caller` can talk to a server that has the type
/// `server`, both in canonical form.
pub(crate) fn agree(caller: &str, server: &str) -> bool {
    // A `Vec<u8>` takes both forms of bytes.
    caller == server || caller.replace(BORROWED, OWNED) == server
}

/// The longest text of a type that is looked into, in bytes.
const LONGEST: usize = 1_024;

/// Returns the fingerprint of a function, as 16 hexadecimal digits.
pub(crate) fn of(function: &FunctionDescription) -> String {
    let params = function.params.iter();
    let params = params.map(|param| format!("{}: {}", param.name, canonical(&param.ty)));
    let params = params.collect::<Vec<_>>().join(", ");
    let result = canonical(&function.result);
    let error = function.error.as_deref().map(canonical).unwrap_or_default();
    let text = format!("{}({params}) -> {result} | {error}", function.name);
    format!("{:016x}", fnv::hash(text.as_bytes()))
}

/// Returns the text of a type without what makes no difference.
pub(crate) fn canonical(ty: &str) -> String {
    // A peer may have chosen the text, and each level of nesting takes a part of the stack.
    if ty.len() > LONGEST {
        return ty.to_owned();
    }
    let tokens = tokens(ty);
    let mut rest = tokens.as_slice();
    match read_type(&mut rest) {
        Some(canonical) if rest.is_empty() && canonical == BORROWED => OWNED.to_owned(),
        Some(canonical) if rest.is_empty() => canonical,
        // The text is no type that is known here. It is then compared as it is.
        _ => tokens.concat(),
    }
}

fn tokens(mut text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    loop {
        text = text.trim_start();
        let Some(first) = text.chars().next() else { return tokens };
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = match first {
            '\'' => 1 + text[1..].find(|c| !is_word(c)).unwrap_or(text.len() - 1),
            c if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
            ':' if text.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        let (token, after) = text.split_at(len);
        tokens.push(token);
        text = after;
    }
}

/// Reads one type. Returns `None` for a text that is no type.
fn read_type(rest: &mut &[&str]) -> Option<String> {
    let mut borrowed = false;
    loop {
        let (first, after) = rest.split_first()?;
        *rest = after;
        return match *first {
            "&" => {
                borrowed = true;
                continue;
            }
            "mut" => continue,
            lifetime if lifetime.starts_with('\'') => continue,
            "(" => Some(format!("({})", read_list(rest, ")")?.join(","))),
            "[" => {
                let element = read_type(rest)?;
                match take(rest)? {
                    "]" if element == "u8" && borrowed => Some(BORROWED.to_owned()),
                    // Boxed bytes are an array, even as a parameter.
                    "]" if element == "u8" => Some("[u8]".to_owned()),
                    "]" => Some(format!("Vec<{element}>")),
                    ";" => {
                        let end = rest.iter().position(|token| *token == "]")?;
                        let (len, after) = rest.split_at(end);
                        *rest = &after[1..];
                        Some(format!("[{element};{}]", len.concat()))
                    }
                    _ => None,
                }
            }
            "::" => continue,
            name => read_path(name, rest),
        };
    }
}

/// Reads a path, of which `name` is the first segment, and keeps its last segment.
fn read_path<'a>(mut name: &'a str, rest: &mut &[&'a str]) -> Option<String> {
    while let ["::", segment, after @ ..] = *rest {
        name = segment;
        *rest = after;
    }
    if !name.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let mut arguments = Vec::new();
    if let ["<", after @ ..] = *rest {
        *rest = after;
        arguments = read_list(rest, ">")?;
    }
    if let ([inner], true) = (arguments.as_slice(), TRANSPARENT.contains(&name)) {
        let borrows = name == "Cow" && inner == "[u8]";
        return Some(if borrows { BORROWED.to_owned() } else { inner.clone() });
    }
    let same = SAME.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| to);
    if arguments.is_empty() {
        Some(same.to_owned())
    } else {
        Some(format!("{same}<{}>", arguments.join(",")))
    }
}

/// Reads types that are separated by commas, up to the token `end`. Lifetimes are left out.
fn read_list(rest: &mut &[&str], end: &str) -> Option<Vec<String>> {
    let mut list = Vec::new();
    loop {
        match rest.first()? {
            token if *token == end => {
                *rest = &rest[1..];
                return Some(list);
            }
            &"," => *rest = &rest[1..],
            lifetime if lifetime.starts_with('\'') => *rest = &rest[1..],
            _ => list.push(read_type(rest)?),
        }
    }
}

fn take<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::ParamDescription;

    #[test]
    fn types_that_are_the_same_on_the_wire_are_equal() {
        for (same, all) in [
            ("String", &["&str", "String", "std::string::String", "Cow<'_, str>", "Box<str>"][..]),
            ("Vec<u8>", &["&[u8]", "Vec<u8>", "Bytes", "bytes::Bytes", "&'_ [ u8 ]"]),
            ("Option<String>", &["Option<&str>", "::core::option::Option<String>"]),
            ("(String,Vec<&[u8]>)", &["(&str, Vec<&[u8]>)", "(String,&[Cow<'_, [u8]>],)"]),
            ("(String,Vec<Vec<u8>>)", &["(&str, Vec<Vec<u8>>)", "(String,&[Bytes],)"]),
            ("[u8]", &["Box<[u8]>", "Arc<[u8]>"]),
            (
                "HashMap<String,u64>",
                &["HashMap<String, u64>", "std::collections::HashMap<&str,u64>"],
            ),
            ("[u8;16]", &["[u8; 16]", "&[u8;16]"]),
            ("()", &["()", "( )"]),
            ("Order", &["crate::Order", "&shop::Order", "Arc<Order>"]),
        ] {
            for ty in all {
                assert_eq!(canonical(ty), same, "{ty}");
            }
        }
        let deep = "(".repeat(1_000_000);
        assert_eq!(canonical(&deep), deep);
        // These are no types, and stay as they are.
        for text in ["", "<", "Vec<", "[u8", "a b", "€", "(", "Vec<u8>>"] {
            assert_eq!(canonical(text), text.replace(' ', ""));
        }
    }

    #[test]
    fn callers_of_bytes_agree_with_servers_that_take_them() {
        for (caller, server, expected) in [
            ("&[u8]", "Vec<u8>", true),
            ("Vec<u8>", "&[u8]", true),
            ("Vec<&[u8]>", "Vec<Vec<u8>>", true),
            ("Vec<Vec<u8>>", "Vec<&[u8]>", false),
            ("Box<[u8]>", "&[u8]", false),
            ("u8", "i8", false),
        ] {
            assert_eq!(
                agree(&canonical(caller), &canonical(server)),
                expected,
                "{caller} {server}"
            );
        }
    }

    #[test]
    fn every_part_of_a_function_counts() {
        let param =
            |name: &str, ty: &str| ParamDescription { name: name.to_owned(), ty: ty.to_owned() };
        let function = FunctionDescription {
            name: "transfer".to_owned(),
            params: vec![param("from", "&str"), param("to", "&str")],
            result: "u64".to_owned(),
            ..FunctionDescription::default()
        };
        let same = FunctionDescription {
            doc: "Other docs.".to_owned(),
            idempotent: true,
            params: vec![param("from", "String"), param("to", "String")],
            ..function.clone()
        };
        assert_eq!(of(&function), of(&same));
        assert_eq!(of(&function), "1345ff7b0694f494", "it is the same in every version");
        let swapped = vec![param("to", "&str"), param("from", "&str")];
        for other in [
            FunctionDescription { name: "move".to_owned(), ..function.clone() },
            FunctionDescription { params: swapped, ..function.clone() },
            FunctionDescription { result: "u32".to_owned(), ..function.clone() },
            FunctionDescription { error: Some("String".to_owned()), ..function.clone() },
        ] {
            assert_ne!(of(&function), of(&other), "{other:?}");
        }
    }
}
