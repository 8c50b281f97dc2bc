//! Crates, and which needs which, as cargo says.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::build;

/// The programs that are installed.
const PROGRAMS: [&str; 2] = ["qemu-pr-helper", "prhctl"];

/// A crate; of this workspace if it has no source.
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

/// What cargo metadata prints, as far as it matters.
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
    /// All of Cargo.lock.
    pub(super) fn whole() -> Result<Self> {
        build::metadata(&["--locked"])
    }

    /// What the programs are made of on this machine's platform, tests left out.
    pub(super) fn of_programs() -> Result<Self> {
        let platform = format!("--filter-platform={}", build::host()?);
        let mut graph: Self = build::metadata(&["--locked", &platform])?;
        let is_program = |package: &&Package| PROGRAMS.contains(&package.name.as_str());
        let programs = graph.packages.iter().filter(is_program);
        let mut left: Vec<String> = programs.map(|package| package.id.clone()).collect();
        let mut kept = BTreeSet::new();
        while let Some(id) = left.pop() {
            if kept.insert(id.clone()) {
                left.extend(graph.needed_by(&id).map(str::to_owned));
            }
        }
        graph.packages.retain(|package| kept.contains(&package.id));
        Ok(graph)
    }

    /// The ids of what a crate needs, but for its tests.
    pub(super) fn needed_by(&self, id: &str) -> impl Iterator<Item = &str> {
        let is_needed = |edge: &&Edge| {
            let mut kinds = edge.dep_kinds.iter();
            kinds.any(|one| one.kind.as_deref() != Some("dev"))
        };
        let node = self.resolve.nodes.iter().find(move |node| node.id == id);
        let edges = node.into_iter().flat_map(|node| &node.deps);
        edges.filter(is_needed).map(|edge| edge.pkg.as_str())
    }

    /// The crate with this id.
    pub(super) fn package(&self, id: &str) -> Result<&Package> {
        let mut packages = self.packages.iter();
        let found = packages.find(|package| package.id == id);
        found.with_context(|| format!("cargo does not know {id}"))
    }

    /// The programs among the crates.
    pub(super) fn is_program(package: &Package) -> bool {
        package.source.is_none() && PROGRAMS.contains(&package.name.as_str())
    }
}
