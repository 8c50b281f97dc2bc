// SPDX-License-Identifier: MIT OR Apache-2.0

//! The differences between helpers, which are the rows of the tables in `docs/compatibility.md`,
//! and a check of both.

use std::collections::BTreeSet;

use pr_testkit::table;

use crate::release::Release;

/// Text of the document.
const DOCUMENT: &str = include_str!("../../docs/compatibility.md");

/// Declares the rows of a table: names, and IDs in the table's first column.
macro_rules! rows {
    ($(#[$doc:meta])* $table:ident { $($name:ident $id:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $table { $($name),* }

        impl $table {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the ID in the table's first column.
            fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }
        }
    };
}

rows! {
    /// An intended difference between the original and our helper.
    Row {
        SocketTheft "D01"
        ForeignFileAtExit "D02"
        ForeignFileAtStart "D03"
        PidfileLeft "D04"
        DaemonErrorLost "D05"
        GroupKept "D06"
        HelpIncomplete "D07"
        NoNewPrivs "D08"
        Backlog "D09"
        EqualsSign "D10"
        StrayDescriptor "D11"
        Multipath "D12"
        VersionText "D13"
        ThreadsKeepPrivileges "D14"
        OptionsInOrder "D15"
        ActivationSocket "D16"
        HighestId "D17"
        OnMultipath "D18"
        ShortForm "D19"
        LastEvent "D20"
        EventsDirectory "D21"
        TracePipe "D22"
        PartOfDisk "D23"
        ControlCharacters "D24"
        PidfileLink "D25"
        TraceLink "D26"
        DefaultAccount "D27"
        SocketOfUserLeft "D28"
        Cleanup "D29"
        ListeningLine "D30"
    }
}

rows! {
    /// A change between two releases of the original.
    Change {
        OfflineDisk "R01"
        PathDescriptor "R02"
    }
}

impl Change {
    /// Returns the first release with the newer behavior.
    pub(crate) fn since(self) -> Release {
        match self {
            Self::OfflineDisk => Release(10, 1),
            Self::PathDescriptor => Release(10, 2),
        }
    }
}

/// Asserts that the tables have the same IDs as [`Row`] and [`Change`], and that cases depend on
/// all of them: `rows` and `changes`.
pub(crate) fn check(rows: &[Row], changes: &[Change]) {
    let known = Row::ALL.iter().map(|row| row.id());
    let known = known.chain(Change::ALL.iter().map(|row| row.id()));
    table::assert_same(
        (
            "docs/compatibility.md",
            DOCUMENT.lines().filter_map(documented_id),
        ),
        ("differences.rs", known.clone()),
    );
    let used = rows.iter().map(|row| row.id());
    let used: BTreeSet<&str> = used.chain(changes.iter().map(|row| row.id())).collect();
    table::assert_same(("differences.rs", known), ("the list of cases", used));
}

/// Returns the ID of a table row: `| D01 | … |` or `| R01 | … |`.
fn documented_id(line: &str) -> Option<&str> {
    let id = line.strip_prefix('|')?.split('|').next()?.trim();
    let number = id.strip_prefix(['D', 'R'])?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}
