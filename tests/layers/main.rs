//! The layers of rpc-core, as ARCHITECTURE.md lists them, compared with what the code imports.
//!
//! A module may import from the layers below its own, and from nothing else: neither from a layer
//! above it nor from a neighbor. So there are no cycles. A re-export of its own submodules (`pub use
//! self::…`) is no import, and tests may import anything.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use self::imports::{Import, Module, imports, names_crate};

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
                let mut within = sources.iter().filter(|(module, _)| is_within(module, named));
                let imported = within.any(|(_, text)| names_crate(text, krate));
                assert!(imported, "{named} does not import {krate}");
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
