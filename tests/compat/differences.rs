//! The intended differences, which are the rows of `docs/compatibility.md`, and a check of both.

use std::collections::BTreeSet;

/// Text of the document.
const TABLE: &str = include_str!("../../docs/compatibility.md");

/// An intended difference between the original and our helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    SocketTheft,
    ForeignFileAtExit,
    ForeignFileAtStart,
    PidfileLeft,
    DaemonErrorLost,
    GroupKept,
    HelpIncomplete,
    NoNewPrivs,
    Backlog,
    EqualsSign,
    StrayDescriptor,
    Multipath,
    VersionText,
    ThreadsKeepPrivileges,
    OptionsInOrder,
    ActivationSocket,
    HighestId,
    OnMultipath,
    ShortForm,
    LastEvent,
    EventsDirectory,
    TracePipe,
    PartOfDisk,
    ControlCharacters,
    PidfileLink,
    TraceLink,
    DefaultAccount,
    SocketOfUserLeft,
}

impl Row {
    const ALL: [Self; 28] = [
        Self::SocketTheft,
        Self::ForeignFileAtExit,
        Self::ForeignFileAtStart,
        Self::PidfileLeft,
        Self::DaemonErrorLost,
        Self::GroupKept,
        Self::HelpIncomplete,
        Self::NoNewPrivs,
        Self::Backlog,
        Self::EqualsSign,
        Self::StrayDescriptor,
        Self::Multipath,
        Self::VersionText,
        Self::ThreadsKeepPrivileges,
        Self::OptionsInOrder,
        Self::ActivationSocket,
        Self::HighestId,
        Self::OnMultipath,
        Self::ShortForm,
        Self::LastEvent,
        Self::EventsDirectory,
        Self::TracePipe,
        Self::PartOfDisk,
        Self::ControlCharacters,
        Self::PidfileLink,
        Self::TraceLink,
        Self::DefaultAccount,
        Self::SocketOfUserLeft,
    ];

    /// Returns the ID in the table's first column.
    fn id(self) -> &'static str {
        match self {
            Self::SocketTheft => "D01",
            Self::ForeignFileAtExit => "D02",
            Self::ForeignFileAtStart => "D03",
            Self::PidfileLeft => "D04",
            Self::DaemonErrorLost => "D05",
            Self::GroupKept => "D06",
            Self::HelpIncomplete => "D07",
            Self::NoNewPrivs => "D08",
            Self::Backlog => "D09",
            Self::EqualsSign => "D10",
            Self::StrayDescriptor => "D11",
            Self::Multipath => "D12",
            Self::VersionText => "D13",
            Self::ThreadsKeepPrivileges => "D14",
            Self::OptionsInOrder => "D15",
            Self::ActivationSocket => "D16",
            Self::HighestId => "D17",
            Self::OnMultipath => "D18",
            Self::ShortForm => "D19",
            Self::LastEvent => "D20",
            Self::EventsDirectory => "D21",
            Self::TracePipe => "D22",
            Self::PartOfDisk => "D23",
            Self::ControlCharacters => "D24",
            Self::PidfileLink => "D25",
            Self::TraceLink => "D26",
            Self::DefaultAccount => "D27",
            Self::SocketOfUserLeft => "D28",
        }
    }
}

/// Checks that the table and [`Row`] have the same IDs, and that all of them are in `used`.
pub(crate) fn check(used: &[Row]) -> Result<(), String> {
    let known: BTreeSet<&str> = Row::ALL.iter().map(|row| row.id()).collect();
    let documented: BTreeSet<&str> = TABLE.lines().filter_map(documented_id).collect();
    if known != documented {
        return Err(format!(
            "docs/compatibility.md has {documented:?}, differences.rs has {known:?}"
        ));
    }
    match Row::ALL.iter().find(|row| !used.contains(row)) {
        Some(row) => Err(format!("no case depends on {row:?}")),
        None => Ok(()),
    }
}

/// Returns the ID of a table row: `| D01 | … |`.
fn documented_id(line: &str) -> Option<&str> {
    let id = line.strip_prefix('|')?.split('|').next()?.trim();
    let number = id.strip_prefix('D')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}
