//! The layers of rpc-core, as ARCHITECTURE.md lists them, compared with what the code imports.
//!
//! A module may import from the layers below its own, and from nothing else: neither from a layer above
//! it nor from a neighbor. So there are no cycles. A re-export of its own submodules (`pub use self::…`)
//! is no import, and tests may import anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module by its path below `rpc-core/src`: `client/calls`. The root of the crate is `lib`.
type Module = String;

/// An import: the module that it leads to, or the crate, and its line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    to: Module,
    line: usize,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads every file of rpc-core, apart from the files that hold only tests.
fn sources() -> BTreeMap<Module, String> {
    let src = workspace().join("rpc-core/src");
    let (mut sources, mut folders) = (BTreeMap::new(), vec![src.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
            if is_tests {
            } else if path.is_dir() {
                folders.push(path);
            } else {
                let module = path.strip_prefix(&src).expect("it is below").with_extension("");
                let text = fs::read_to_string(&path).expect("it is text");
                sources.insert(module.to_str().expect("it is text").to_owned(), text);
            }
        }
    }
    sources
}

/// Reads a block of ARCHITECTURE.md, without its blank lines.
fn block(name: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).expect("it is there");
    let (_, block) = text.split_once(&format!("```{name}\n")).expect("there is such a block");
    let (block, _) = block.split_once("```").expect("the block ends");
    block.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Reads the layers of ARCHITECTURE.md, from the highest on.
fn layers() -> Vec<Vec<Module>> {
    let modules = |line: &String| line.split_whitespace().flat_map(expand).collect();
    block("layers").iter().map(modules).collect()
}

/// Expands `client/{call,map}`.
fn expand(word: &str) -> Vec<Module> {
    match word.split_once('{') {
        None => vec![word.to_owned()],
        Some((folder, names)) => {
            let names = names.strip_suffix('}').expect("the brace is closed");
            names.split(',').map(|name| format!("{folder}{name}")).collect()
        }
    }
}

/// Finds the paths that begin with `crate`, `self`, `super` or a submodule, also within macros, outside
/// of tests.
fn imports(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Import> {
    let tokens = text.parse().expect("the file is Rust");
    let mut finder = Finder { module, modules, inline: Vec::new(), found: BTreeSet::new() };
    finder.visit(tokens);
    finder.found
}

struct Finder<'a> {
    module: &'a Module,
    modules: &'a BTreeSet<Module>,
    /// The modules within the file that the finder is in.
    inline: Vec<String>,
    found: BTreeSet<Import>,
}

impl Finder<'_> {
    fn visit(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_cfg_test(&tokens[at..]) {
                at = end_of_item(&tokens, at + 2);
                continue;
            }
            if let TokenTree::Ident(root) = &tokens[at]
                && is_path(&tokens[at + 1..])
                && !ends_with_path(&tokens[..at])
                && let Some(path) = self.root(&root.to_string())
            {
                let line = root.span().start().line;
                let is_reexport = root == "self" && is_public_use(&tokens[..at]);
                at = self.follow(&tokens, at + 1, path, line, is_reexport);
                continue;
            }
            if let TokenTree::Group(group) = &tokens[at] {
                let inline = inline_module(&tokens[..at]);
                let depth = self.inline.len();
                self.inline.extend(inline);
                self.visit(group.stream());
                self.inline.truncate(depth);
            }
            at += 1;
        }
    }

    /// The module that the first word of a path stands for: `crate`, `self`, `super`, or a submodule.
    fn root(&self, ident: &str) -> Option<Vec<String>> {
        let own = self.module.split('/').map(str::to_owned);
        let own: Vec<_> = own.chain(self.inline.iter().cloned()).collect();
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

    /// Follows a path from the `::` at `at` on, into the groups of a `use`. Returns the index behind it.
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

/// Lists the imports that ARCHITECTURE.md does not allow.
fn violations(sources: &BTreeMap<Module, String>, layers: &[Vec<Module>]) -> Vec<String> {
    let modules: BTreeSet<_> = sources.keys().cloned().collect();
    let mut layer_of = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        for module in layer {
            assert!(layer_of.insert(module.clone(), number).is_none(), "{module} stands twice");
        }
    }
    let mut violations = Vec::new();
    for (module, text) in sources {
        let Some(own) = layer_of.get(module) else {
            violations.push(format!("rpc-core/src/{module}.rs is in no layer"));
            continue;
        };
        for Import { to, line } in imports(module, text, &modules) {
            if layer_of.get(&to).is_none_or(|other| other <= own) {
                let text = text.lines().nth(line - 1).unwrap_or_default().trim();
                violations.push(format!(
                    "rpc-core/src/{module}.rs:{line}: imports {to}, which is not below it: {text}"
                ));
            }
        }
    }
    let gone = layer_of.keys().filter(|module| !modules.contains(*module));
    violations.extend(gone.map(|module| format!("ARCHITECTURE.md lists {module}: there is none")));
    violations
}

/// A rule of ARCHITECTURE.md about modules, each with its submodules.
#[derive(Debug)]
enum Rule {
    /// `a b never imports c`, where `c` is a module or a crate.
    Never(Vec<Module>, String),
    /// `only a imports c`, where `c` is a crate.
    Only(Module, String),
}

fn rules() -> Vec<Rule> {
    let rule = |line: String| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        match words.as_slice() {
            [only, module, imports, krate] if only == "only" && imports == "imports" => {
                Rule::Only(module.clone(), krate.clone())
            }
            [modules @ .., never, imports, target] if never == "never" && imports == "imports" => {
                Rule::Never(modules.iter().flat_map(|word| expand(word)).collect(), target.clone())
            }
            _ => panic!("this is no rule: {line}"),
        }
    };
    block("rules").into_iter().map(rule).collect()
}

impl Rule {
    /// The crate or module that `module` must not import by this rule.
    fn forbids(&self, module: &Module) -> Option<&str> {
        match self {
            Self::Never(modules, target) => {
                modules.iter().any(|parent| is_within(module, parent)).then_some(target)
            }
            Self::Only(parent, krate) => (!is_within(module, parent)).then_some(krate),
        }
    }
}

fn is_within(module: &str, parent: &str) -> bool {
    let rest = module.strip_prefix(parent);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// True if `text` names the crate `krate` outside of tests.
fn names_crate(text: &str, krate: &str) -> bool {
    fn visit(tokens: TokenStream, krate: &str) -> bool {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_cfg_test(&tokens[at..]) {
                at = end_of_item(&tokens, at + 2);
                continue;
            }
            let found = match &tokens[at] {
                TokenTree::Ident(ident) => {
                    *ident == krate && is_path(&tokens[at + 1..]) && !ends_with_path(&tokens[..at])
                }
                TokenTree::Group(group) => visit(group.stream(), krate),
                _ => false,
            };
            if found {
                return true;
            }
            at += 1;
        }
        false
    }
    visit(text.parse().expect("the file is Rust"), krate)
}

#[test]
fn rules_of_the_architecture_hold() {
    let (sources, rules) = (sources(), rules());
    let modules: BTreeSet<_> = sources.keys().cloned().collect();
    let mut broken = Vec::new();
    for (module, text) in &sources {
        let imports = imports(module, text, &modules);
        for rule in &rules {
            let Some(target) = rule.forbids(module) else { continue };
            let is_module = modules.contains(target);
            // A module of the same name, which this one imports, hides the crate.
            let is_hidden = imports.iter().any(|import| import.to.ends_with(&format!("/{target}")));
            if is_module && imports.iter().any(|import| is_within(&import.to, target))
                || !is_module && !is_hidden && names_crate(text, target)
            {
                broken.push(format!("rpc-core/src/{module}.rs imports {target}: {rule:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // A rule about a module that is not there holds by mistake.
    for rule in &rules {
        let named = match rule {
            Rule::Never(named, _) => named.clone(),
            Rule::Only(named, krate) => {
                let text = &sources[named];
                assert!(names_crate(text, krate), "{named} does not import {krate}");
                vec![named.clone()]
            }
        };
        assert!(named.iter().all(|module| modules.contains(module)), "{rule:?}");
    }
}

#[test]
fn modules_import_only_from_lower_layers() {
    let violations = violations(&sources(), &layers());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn upward_import_is_reported_with_its_line() {
    let mut sources = sources();
    let error = sources.get_mut("error").expect("there is such a file");
    error.push_str("\nuse crate::__private::IsError;\n");
    let line = error.lines().count();
    let found = violations(&sources, &layers());
    let expected = format!("rpc-core/src/error.rs:{line}: imports private, which is not below it");
    assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
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
