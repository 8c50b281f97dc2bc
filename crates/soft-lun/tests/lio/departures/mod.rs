//! Where LIO departs from the standard: the rows of `docs/lio-differences.md`, each with the code that
//! says when, what LIO answers then, and which state it is in afterwards.

mod checks;
mod effects;
mod report;
mod situation;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use scsi_pr::{OutServiceAction, Status};

use crate::command::{Command, SPEC_I_PT, Side, Step};
use crate::model::{Model, Outcome};
use situation::{Situation, transport_ids};

/// The document's text.
const DOCUMENT: &str = include_str!("../../../../../docs/lio-differences.md");

/// Declares the rows: name, id in the document, and the function of that name.
macro_rules! rows {
    ($($name:ident $id:literal $function:path;)*) => {
        /// A departure of LIO from the standard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Row { $($name),* }

        impl Row {
            /// In the order in which LIO comes to them.
            pub(crate) const ALL: &[Row] = &[$(Row::$name),*];

            /// The id in the document's first column.
            pub(crate) fn id(self) -> &'static str {
                match self { $(Row::$name => $id),* }
            }

            /// What LIO does with a command, if the row is about it.
            fn outcome(self, situation: &Situation<'_>) -> Option<Outcome> {
                match self { $(Row::$name => $function(situation)),* }
            }
        }
    };
}

rows! {
    AttentionsDropped "L01" effects::attentions_dropped;
    ShortAllocation "L02" report::short_allocation;
    PartialKey "L03" report::partial_key;
    PartialReservation "L04" report::partial_reservation;
    DescriptorsThatFit "L05" report::descriptors_that_fit;
    CompatibleReservationHandling "L06" report::compatible_reservation_handling;
    UnknownActionConflicts "L07" checks::unknown_action_conflicts;
    UnknownActionLast "L08" checks::unknown_action_last;
    NoListNoConflict "L09" checks::no_list_no_conflict;
    ReservedTypeFirst "L10" checks::reserved_type_first;
    UnregisteredSender "L11" checks::unregistered_sender;
    ScopeInList "L12" checks::scope_in_list;
    ListBeforeConflict "L13" checks::list_before_conflict;
    KeyOfRelease "L14" checks::key_of_release;
    ReleaseOfAnotherType "L15" checks::release_of_another_type;
    KeysBeforeTransportIds "L16" checks::keys_before_transport_ids;
    BytesAfterTransportIds "L17" checks::bytes_after_transport_ids;
    FormatCodeIgnored "L18" checks::format_code_ignored;
    LongTransportId "L19" checks::long_transport_id;
    AllTgPtAgain "L20" effects::all_tg_pt_again;
    UnregisteringNotCounted "L21" effects::unregistering_not_counted;
    AllTgPtKept "L22" effects::all_tg_pt_kept;
    EachNameCounted "L23" effects::each_name_counted;
    ClearEndsAptpl "L24" effects::clear_ends_aptpl;
    PreemptsItself "L25" effects::preempts_itself;
    PreemptsTheOne "L26" effects::preempts_the_one;
    MovedRegistrationKept "L27" effects::moved_registration_kept;
    ScopeAfterMove "L28" effects::scope_after_move;
}

/// What LIO is expected to do with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prediction {
    pub(crate) outcome: Outcome,
    /// The departure, if soft-lun does something else.
    pub(crate) row: Option<Row>,
}

/// What LIO will do: what the first row says that is about the command, or else what soft-lun does.
pub(crate) fn predict(model: &Model, step: &Step) -> Prediction {
    let situation = Situation { model, step };
    let standard = situation.standard();
    // While a unit attention waits, the command is not looked at.
    let rows = match situation.attentions().is_empty() {
        true => &Row::ALL[1..],
        false => &Row::ALL[..1],
    };
    let departs = rows
        .iter()
        .find_map(|row| Some((*row, row.outcome(&situation)?)))
        .filter(|(_, outcome)| *outcome != standard);
    match departs {
        Some((row, outcome)) => Prediction {
            outcome,
            row: Some(row),
        },
        None => Prediction {
            outcome: standard,
            row: None,
        },
    }
}

/// Why a command is not sent; the document's second table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Avoided {
    /// PREEMPT AND ABORT that is done never ends.
    AbortNeverEnds,
    /// `SPEC_I_PT` registers a nexus twice.
    RegisteredTwice,
}

/// Whether LIO must not be sent a command in this state.
pub(crate) fn avoided(model: &Model, step: &Step) -> Option<Avoided> {
    let Command::Out(out) = &step.command else {
        return None;
    };
    if !model.unit.unit_attentions(model.id(step.side)).is_empty() {
        return None;
    }
    if out.action == OutServiceAction::PreemptAndAbort.code() {
        let mut plain = out.clone();
        plain.action = OutServiceAction::Preempt.code();
        let preempt = Step {
            side: step.side,
            command: Command::Out(plain),
        };
        let prediction = predict(model, &preempt);
        let done = prediction.outcome.answer.status == Status::GOOD;
        return done.then_some(Avoided::AbortNeverEnds);
    }
    let registers = out.action == OutServiceAction::Register.code();
    let specifies = registers && out.flags() & SPEC_I_PT != 0;
    if specifies && model.key(step.side).is_none() {
        let (_, ids) = transport_ids(out)?;
        let named = |side: Side| {
            let address = side.address().to_be_bytes();
            let ids = ids.chunks(24).filter(|id| id.get(4..12) == Some(&address));
            ids.count()
        };
        let twice = named(step.side) > 0
            || model.key(step.side.other()).is_none() && named(step.side.other()) > 1;
        return twice.then_some(Avoided::RegisteredTwice);
    }
    None
}

/// Checks that the document and [`Row`] have the same ids.
pub(crate) fn check_document() -> Result<()> {
    let known: BTreeSet<&str> = Row::ALL.iter().map(|row| row.id()).collect();
    let documented: BTreeSet<&str> = DOCUMENT.lines().filter_map(documented_id).collect();
    ensure!(
        known == documented && known.len() == Row::ALL.len(),
        "docs/lio-differences.md has {documented:?}, departures/mod.rs has {known:?}"
    );
    Ok(())
}

/// The id of a table row: `| L01 | … |`.
fn documented_id(line: &str) -> Option<&str> {
    let id = line.strip_prefix('|')?.split('|').next()?.trim();
    let number = id.strip_prefix('L')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}
