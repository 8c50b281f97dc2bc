// SPDX-License-Identifier: MIT OR Apache-2.0

//! The verdicts on registrations.

/// Answer to the question whether the owner of a registration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It runs.
    Alive,
    /// It does not run.
    Orphan,
    /// It may run.
    Unknown,
}

impl Verdict {
    /// Returns the name in text and JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verdict::Alive => "alive",
            Verdict::Orphan => "orphan",
            Verdict::Unknown => "unknown",
        }
    }

    /// Returns the verdict with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Verdict::Alive, Verdict::Orphan, Verdict::Unknown];
        all.into_iter().find(|verdict| verdict.name() == name)
    }
}
