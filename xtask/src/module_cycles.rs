// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask cycles`: finds sibling modules that depend on each other.
//!
//! A module depends on another one if a `use` tree or a path names it with `crate` or `super`.
//! Dependencies between a module and its descendants do not count. Modules and imports for tests or
//! for shuttle only are left out, and so are modules with a file in another crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem;
use std::path::Path;
use std::slice;

use anyhow::{Context as _, Result, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde_json::{Value, json};

use pr_testkit::build;

/// Checks the libraries and programs of the workspace; fails if there is a cycle.
pub(crate) fn run() -> Result<()> {
    let metadata: Value = build::metadata(&["--no-deps"])?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]);
    let targets = packages
        .iter()
        .flat_map(|package| list(&package["targets"]));
    let kinds = [json!(["lib"]), json!(["bin"])];
    let (mut modules, mut cycles) = (0, 0);
    for target in targets.filter(|target| kinds.contains(&target["kind"])) {
        let root = target["src_path"]
            .as_str()
            .context("cargo did not name a source file")?;
        let tree = ModuleTree::read(Path::new(root))?;
        for cycle in tree.cycles() {
            print!("{root}:\n{cycle}");
            cycles += 1;
        }
        modules += tree.modules.len();
    }
    ensure!(
        cycles == 0,
        "modules depend on each other in {cycles} cycles"
    );
    println!("{modules} modules without a cycle");
    Ok(())
}

/// A module's path below the crate's root.
type ModulePath = Vec<String>;

/// For each pair of siblings, of which the first depends on the second, an example.
type Edges = BTreeMap<(ModulePath, ModulePath), String>;

/// The modules of a crate, and the paths that each of them names.
#[derive(Default)]
struct ModuleTree {
    modules: BTreeSet<ModulePath>,
    uses: Vec<(ModulePath, Vec<String>)>,
}

impl ModuleTree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.add_file(
            &[],
            root,
            root.parent().context("a root without a directory")?,
        )?;
        Ok(tree)
    }

    /// Adds the module in `file`, which has its child modules in `dir`.
    fn add_file(&mut self, module: &[String], file: &Path, dir: &Path) -> Result<()> {
        let parse = || fs::read_to_string(file).ok()?.parse().ok();
        let tokens = parse().with_context(|| format!("cannot parse {}", file.display()))?;
        self.add_tokens(module, tokens, &[], dir)
    }

    /// Adds the paths and child modules in a part of a module. `prefix` is the path before the
    /// braces of a `use` tree.
    fn add_tokens(
        &mut self,
        module: &[String],
        tokens: TokenStream,
        prefix: &[String],
        dir: &Path,
    ) -> Result<()> {
        self.modules.insert(module.to_vec());
        let (mut path, mut colons, mut is_left_out) = (Vec::new(), 0, false);
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) if (word == "mod" || word == "use") && is_left_out => {
                    tokens.by_ref().find(ends_item);
                    is_left_out = false;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    let name = tokens
                        .next()
                        .context("a module without a name")?
                        .to_string();
                    let child = [module, slice::from_ref(&name)].concat();
                    let child_dir = dir.join(&name);
                    if let Some(TokenTree::Group(content)) = tokens.next() {
                        self.add_tokens(&child, content.stream(), &[], &child_dir)?;
                        continue;
                    }
                    let files = [dir.join(format!("{name}.rs")), child_dir.join("mod.rs")];
                    if let Some(file) = files.iter().find(|file| file.is_file()) {
                        self.add_file(&child, file, &child_dir)?;
                    }
                }
                TokenTree::Ident(word) => {
                    if mem::take(&mut colons) != 2 {
                        self.add_path(module, mem::replace(&mut path, prefix.to_vec()));
                    }
                    path.push(word.to_string());
                }
                TokenTree::Group(group) => {
                    let path = mem::take(&mut path);
                    let is_tree = mem::take(&mut colons) == 2;
                    let prefix = if is_tree { path.as_slice() } else { &[] };
                    self.add_tokens(module, group.stream(), prefix, dir)?;
                    if !is_tree {
                        self.add_path(module, path);
                    }
                    is_left_out = group.delimiter() == Delimiter::Bracket
                        && is_test_condition(&group.stream().to_string())
                        || is_left_out && group.delimiter() != Delimiter::Brace;
                }
                other => {
                    self.add_path(module, mem::take(&mut path));
                    colons = 0;
                    is_left_out &= !ends_item(&other);
                }
            }
        }
        self.add_path(module, path);
        Ok(())
    }

    /// Adds a path unless it can lead to descendants or out of the crate only.
    fn add_path(&mut self, module: &[String], path: Vec<String>) {
        if path
            .first()
            .is_some_and(|first| first == "crate" || first == "super")
        {
            self.uses.push((module.to_vec(), path));
        }
    }

    /// Returns the module that a path in `module` leads to.
    fn resolve(&self, module: &[String], path: &[String]) -> ModulePath {
        let mut resolved = module.to_vec();
        for name in path {
            match name.as_str() {
                "crate" => resolved.clear(),
                "super" => drop(resolved.pop()),
                "self" => {}
                name => {
                    resolved.push(name.to_owned());
                    if !self.modules.contains(&resolved) {
                        resolved.pop();
                        break;
                    }
                }
            }
        }
        resolved
    }

    /// Returns the cycles as text: the edges of each, with a path that makes the edge.
    fn cycles(&self) -> Vec<String> {
        let mut edges = Edges::new();
        for (module, used) in &self.uses {
            let target = self.resolve(module, used);
            let common = module
                .iter()
                .zip(&target)
                .take_while(|(a, b)| a == b)
                .count();
            if common < module.len() && common < target.len() {
                let edge = (module[..=common].to_vec(), target[..=common].to_vec());
                let why = || format!("{} names {}", module.join("::"), used.join("::"));
                edges.entry(edge).or_insert_with(why);
            }
        }
        let mut cycles: BTreeMap<BTreeSet<&ModulePath>, String> = BTreeMap::new();
        for ((from, to), why) in &edges {
            let mut members = reachable(from, &edges);
            if reachable(to, &edges).contains(from) {
                members.retain(|member| reachable(member, &edges).contains(from));
                let text = cycles.entry(members).or_default();
                *text += &format!("  {} -> {}: {why}\n", from.join("::"), to.join("::"));
            }
        }
        cycles.into_values().collect()
    }
}

/// Returns whether the condition of a `cfg` attribute holds for tests or for shuttle only.
fn is_test_condition(attribute: &str) -> bool {
    let attribute = attribute
        .replace(' ', "")
        .replace("not(test)", "")
        .replace("not(shuttle)", "");
    attribute.starts_with("cfg(") && (attribute.contains("test") || attribute.contains("shuttle"))
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

/// Returns the modules that one or more edges lead to.
fn reachable<'a>(from: &'a ModulePath, edges: &'a Edges) -> BTreeSet<&'a ModulePath> {
    let mut found = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(module) = pending.pop() {
        let next = edges.keys().filter(|(from, _)| from == module);
        pending.extend(next.map(|(_, to)| to).filter(|to| found.insert(*to)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        ModuleTree::read(&dir.path().join("lib.rs"))
            .unwrap()
            .cycles()
    }

    #[test]
    fn planted_cycles_are_found() {
        let found = cycles(&[
            (
                "lib.rs",
                "mod a; mod b; mod c { fn f() { g!(crate::a::X, 1); } }",
            ),
            ("a.rs", "use crate::{b::B, c};"),
            ("b/mod.rs", "#[cfg(test)] const N: u8 = 1; mod d; mod e;"),
            ("b/d.rs", "fn f() -> super::e::E { crate::a::f() }"),
            ("b/e.rs", "use super::d::{self as other};"),
        ]);
        let expected = [
            "  a -> b: a names crate::b::B\n  a -> c: a names crate::c\n  \
                b -> a: b::d names crate::a::f\n  c -> a: c names crate::a::X\n",
            "  b::d -> b::e: b::d names super::e::E\n  b::e -> b::d: b::e names super::d::self\n",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn uses_in_one_direction_are_not_a_cycle() {
        let found = cycles(&[
            (
                "lib.rs",
                "mod a; mod b; mod c; use a::A; #[cfg(all(test, not(shuttle)))] mod absent;",
            ),
            (
                "a.rs",
                "use crate::b::B; use crate::Root; #[cfg(test)] mod tests { use super::*; }",
            ),
            ("b.rs", "use std::fmt; #[cfg(test)] use crate::a::A;"),
            (
                "c.rs",
                "use super::{a, b}; mod inner { use super::super::b; }",
            ),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
