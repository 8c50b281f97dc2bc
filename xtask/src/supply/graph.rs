//! The dependency graph of the workspace, from `cargo metadata`.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use pr_testkit::build;

/// The installed programs.
const PROGRAMS: [&str; 2] = ["qemu-pr-helper", "prhctl"];

/// A crate. Crates of this workspace have no source.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    pub(super) source: Option<String>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// The parts of the output of `cargo metadata` that are used.
#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    pub(super) packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

impl Graph {
    /// Returns the crates that the programs consist of on this platform, without development
    /// dependencies.
    pub(super) fn for_programs() -> Result<Self> {
        let platform = format!("--filter-platform={}", build::host()?);
        let mut graph: Self = build::metadata(&["--locked", &platform])?;
        let is_program = |package: &&Package| PROGRAMS.contains(&package.name.as_str());
        let programs = graph.packages.iter().filter(is_program);
        let mut pending: Vec<String> = programs.map(|package| package.id.clone()).collect();
        let mut needed = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if needed.insert(id.clone()) {
                pending.extend(graph.dependencies_of(&id).map(str::to_owned));
            }
        }
        graph
            .packages
            .retain(|package| needed.contains(&package.id));
        Ok(graph)
    }

    /// Returns the IDs of a crate's dependencies, without development dependencies.
    pub(super) fn dependencies_of(&self, id: &str) -> impl Iterator<Item = &str> {
        let is_not_dev = |edge: &&Edge| {
            let mut kinds = edge.dep_kinds.iter();
            kinds.any(|one| one.kind.as_deref() != Some("dev"))
        };
        let node = self.resolve.nodes.iter().find(move |node| node.id == id);
        let edges = node.into_iter().flat_map(|node| &node.deps);
        edges.filter(is_not_dev).map(|edge| edge.pkg.as_str())
    }

    /// Returns the crate with this ID.
    pub(super) fn package(&self, id: &str) -> Result<&Package> {
        let mut packages = self.packages.iter();
        let found = packages.find(|package| package.id == id);
        found.with_context(|| format!("cargo metadata has no package {id}"))
    }

    /// Returns whether a crate is an installed program.
    pub(super) fn is_program(package: &Package) -> bool {
        package.source.is_none() && PROGRAMS.contains(&package.name.as_str())
    }
}
