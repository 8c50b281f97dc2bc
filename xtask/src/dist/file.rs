//! A file of a package.

/// File type in a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Replaced by upgrades.
    Ordinary,
    /// Kept by upgrades if the administrator has changed it.
    Configuration,
    /// Documentation.
    Document,
}

/// A file of a package.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Absolute path.
    pub(crate) path: String,
    /// Permissions.
    pub(crate) mode: u32,
    /// Type.
    pub(crate) kind: Kind,
    /// Content.
    pub(crate) content: Vec<u8>,
}

impl File {
    pub(crate) fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            kind: Kind::Ordinary,
            content: content.into(),
        }
    }

    /// Creates a documentation file.
    pub(crate) fn document(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: Kind::Document,
            ..Self::new(path, content)
        }
    }
}
