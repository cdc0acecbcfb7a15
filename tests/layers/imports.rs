//! The imports of a file, read from its tokens.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module by its path below `rpc-core/src`: `client/calls`. The root of the crate is `lib`.
pub(crate) type Module = String;

/// An import: the module that it leads to, or the crate, and its line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) to: Module,
    pub(crate) line: usize,
}

/// A visitor of paths. It gets the tokens around a path, the index of its first word, and the names
/// of the inline modules that it is in. If it follows the path, it returns the index behind it.
type Visit<'a> = dyn FnMut(&[TokenTree], usize, &[String]) -> Option<usize> + 'a;

/// Visits the paths in a file, also within macros, outside of tests.
fn visit_paths(tokens: TokenStream, inline: &mut Vec<String>, visit: &mut Visit<'_>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_cfg_test(&tokens[at..]) {
            at = end_of_item(&tokens, at + 2);
            continue;
        }
        let mut behind = None;
        match &tokens[at] {
            TokenTree::Ident(_) if is_path(&tokens[at + 1..]) && !ends_with_path(&tokens[..at]) => {
                behind = visit(&tokens, at, inline);
            }
            TokenTree::Group(group) => {
                let depth = inline.len();
                inline.extend(inline_module(&tokens[..at]));
                visit_paths(group.stream(), inline, visit);
                inline.truncate(depth);
            }
            _ => {}
        }
        at = behind.unwrap_or(at + 1);
    }
}

/// Finds the paths that begin with `crate`, `self`, `super` or a submodule.
pub(crate) fn imports(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Import> {
    let mut finder = Finder { module, modules, found: BTreeSet::new() };
    visit_paths(
        text.parse().expect("the file is Rust"),
        &mut Vec::new(),
        &mut |tokens, at, inline| {
            let word = &tokens[at];
            let root = word.to_string();
            let path = finder.root(&root, inline)?;
            let is_reexport = root == "self" && is_public_use(&tokens[..at]);
            Some(finder.follow(tokens, at + 1, path, word.span().start().line, is_reexport))
        },
    );
    finder.found
}

/// True if `text` names the crate `krate` outside of tests.
pub(crate) fn names_crate(text: &str, krate: &str) -> bool {
    let mut found = false;
    visit_paths(text.parse().expect("the file is Rust"), &mut Vec::new(), &mut |tokens, at, _| {
        found |= matches!(&tokens[at], TokenTree::Ident(ident) if *ident == krate);
        None
    });
    found
}

struct Finder<'a> {
    module: &'a Module,
    modules: &'a BTreeSet<Module>,
    found: BTreeSet<Import>,
}

impl Finder<'_> {
    /// The module that the first word of a path stands for, as a path. `None` for other words.
    fn root(&self, ident: &str, inline: &[String]) -> Option<Vec<String>> {
        let own = self.module.split('/').map(str::to_owned);
        let own: Vec<_> = own.chain(inline.iter().cloned()).collect();
        match ident {
            "crate" => Some(Vec::new()),
            "self" => Some(own),
            "super" => Some(own[..own.len() - 1].to_vec()),
            // A submodule needs no root.
            name => {
                let submodule = format!("{}/{name}", self.module);
                let path = || submodule.split('/').map(str::to_owned).collect();
                self.modules.contains(&submodule).then(path)
            }
        }
    }

    /// Follows a path from the `::` at `at` on, into the groups of a `use`. Returns the index behind
    /// it.
    fn follow(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        mut path: Vec<String>,
        line: usize,
        is_reexport: bool,
    ) -> usize {
        while is_path(&tokens[at..]) {
            at += 2;
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) if *ident == "super" => drop(path.pop()),
                Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.follow_group(group.stream(), &path, is_reexport);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
        }
        self.add(&path, line, is_reexport);
        at
    }

    fn follow_group(&mut self, group: TokenStream, path: &[String], is_reexport: bool) {
        let tokens: Vec<_> = group.into_iter().collect();
        for item in tokens.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ','))
        {
            let Some(TokenTree::Ident(first)) = item.first() else { continue };
            let mut path = path.to_vec();
            if first != "self" {
                path.push(first.to_string());
            }
            self.follow(item, 1, path, first.span().start().line, is_reexport);
        }
    }

    /// Notes an import of the longest part of the path that is a module.
    fn add(&mut self, path: &[String], line: usize, is_reexport: bool) {
        // `crate::__private` is the file `private.rs`.
        let path = path.join("/");
        let path: Vec<_> = path.trim_start_matches('_').split('/').collect();
        let prefixes = (1..=path.len()).rev().map(|len| path[..len].join("/"));
        let to = prefixes.into_iter().find(|path| self.modules.contains(path));
        let to = to.unwrap_or_else(|| "lib".to_owned());
        if to != *self.module && !is_reexport {
            self.found.insert(Import { to, line });
        }
    }
}

/// True if a `::` comes next.
fn is_path(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
    tokens.len() >= 2 && tokens[..2].iter().all(is_colon)
}

/// True if a `::` stands before.
fn ends_with_path(tokens: &[TokenTree]) -> bool {
    tokens.len() >= 2 && is_path(&tokens[tokens.len() - 2..])
}

/// True if `pub use` or `pub(crate) use` stands before.
fn is_public_use(tokens: &[TokenTree]) -> bool {
    let is_ident =
        |token: &TokenTree, text: &str| matches!(token, TokenTree::Ident(i) if i == text);
    match tokens {
        [.., public, keyword] if is_ident(keyword, "use") && is_ident(public, "pub") => true,
        [.., public, TokenTree::Group(_), keyword] => {
            is_ident(keyword, "use") && is_ident(public, "pub")
        }
        _ => false,
    }
}

/// The name of the module whose braces come next.
fn inline_module(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [.., TokenTree::Ident(keyword), TokenTree::Ident(name)] if *keyword == "mod" => {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// True if an attribute `#[cfg(...)]` comes next that names `test`.
fn is_cfg_test(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return false };
    let attribute = attribute.stream().to_string();
    hash.as_char() == '#' && attribute.replace(' ', "") == "cfg(test)"
}

/// The index behind the item that begins at `at`: its braces, or its semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let end = tokens[at..].iter().position(ends);
    end.map_or(tokens.len(), |end| at + end + 1)
}

#[test]
fn paths_in_all_places_are_found() {
    let modules = ["a", "a/b", "c", "d", "e"].map(str::to_owned).into();
    let text = "
        use crate::{c::{self, X}, d::Y};
        pub use self::b::Z;
        #[cfg(test)]
        use crate::e::Hidden;
        fn f() { select! { x = crate::e::wait() => super::c::f() } }
        #[cfg(test)]
        mod tests { use crate::d::Hidden; }
        fn g() { b::h(); std::b::i(); }
    ";
    let found = imports(&"a".to_owned(), text, &modules);
    let found: Vec<_> = found.iter().map(|import| (import.to.as_str(), import.line)).collect();
    assert_eq!(found, [("a/b", 9), ("c", 2), ("c", 6), ("d", 2), ("e", 6)]);
    let text = "use super::Parent; mod inner { use super::super::Parent; use super::Own; }";
    let found = imports(&"a/b".to_owned(), text, &modules);
    assert_eq!(found.iter().map(|import| import.to.as_str()).collect::<Vec<_>>(), ["a"]);
}
