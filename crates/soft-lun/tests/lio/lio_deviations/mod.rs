// SPDX-License-Identifier: MIT OR Apache-2.0

//! The deviations of LIO from the standard in `docs/lio-differences.md`. Each has a function that
//! returns the response of LIO and the state afterwards for the commands that it applies to.

mod case;
mod checks;
mod effects;
mod read;

use std::collections::BTreeSet;

use pr_testkit::table;
use scsi_pr::{OutServiceAction, Status};

use crate::command::{Command, Node, SPEC_I_PT, Step};
use crate::model::{Model, Outcome};
use case::{Case, transport_ids};

/// The text of the document.
const DOCUMENT: &str = include_str!("../../../../../docs/lio-differences.md");

/// Declares the deviations: name, id in the document, and function.
macro_rules! deviations {
    ($($name:ident $id:literal $function:path;)*) => {
        /// A deviation of LIO from the standard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Deviation { $($name),* }

        impl Deviation {
            /// In the order in which LIO checks them.
            pub(crate) const ALL: &[Deviation] = &[$(Deviation::$name),*];

            /// Returns the id in the first column of the document.
            pub(crate) fn id(self) -> &'static str {
                match self { $(Deviation::$name => $id),* }
            }

            /// Returns the outcome in LIO, if the deviation applies to the command.
            fn outcome(self, case: &Case<'_>) -> Option<Outcome> {
                match self { $(Deviation::$name => $function(case)),* }
            }
        }
    };
}

deviations! {
    AttentionsDropped "L01" effects::unit_attentions_dropped;
    ShortAllocation "L02" read::short_allocation;
    PartialKey "L03" read::partial_key;
    PartialReservation "L04" read::partial_reservation;
    DescriptorsThatFit "L05" read::descriptors_that_fit;
    CompatibleReservationHandling "L06" read::compatible_reservation_handling;
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

/// The expected outcome of a command in LIO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prediction {
    pub(crate) outcome: Outcome,
    /// The deviation, if the outcome differs from that in soft-lun.
    pub(crate) deviation: Option<Deviation>,
}

/// Predicts the outcome in LIO: that of the first deviation that applies, or that in soft-lun.
pub(crate) fn predict(model: &Model, step: &Step) -> Prediction {
    let case = Case { model, step };
    let soft_lun = case.soft_lun_outcome();
    // While a unit attention is pending, LIO does not look at the command.
    let deviations = match case.unit_attentions().is_empty() {
        true => &Deviation::ALL[1..],
        false => &Deviation::ALL[..1],
    };
    let deviation = deviations
        .iter()
        .find_map(|deviation| Some((*deviation, deviation.outcome(&case)?)))
        .filter(|(_, outcome)| *outcome != soft_lun);
    match deviation {
        Some((deviation, outcome)) => Prediction {
            outcome,
            deviation: Some(deviation),
        },
        None => Prediction {
            outcome: soft_lun,
            deviation: None,
        },
    }
}

/// The reason why a command is not sent, as in the second table of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// A PREEMPT AND ABORT that succeeds never ends.
    AbortNeverEnds,
    /// `SPEC_I_PT` registers a nexus twice.
    RegisteredTwice,
}

/// Returns the reason why a command must not be sent to LIO in this state.
pub(crate) fn exclusion(model: &Model, step: &Step) -> Option<Exclusion> {
    let Command::Out(out) = &step.command else {
        return None;
    };
    if !model.unit.unit_attentions(model.id(step.node)).is_empty() {
        return None;
    }
    if out.action == OutServiceAction::PreemptAndAbort.code() {
        let mut plain = out.clone();
        plain.action = OutServiceAction::Preempt.code();
        let preempt = Step {
            node: step.node,
            command: Command::Out(plain),
        };
        let prediction = predict(model, &preempt);
        let is_good = prediction.outcome.response.status == Status::GOOD;
        return is_good.then_some(Exclusion::AbortNeverEnds);
    }
    let registers = out.action == OutServiceAction::Register.code();
    let specifies = registers && out.flags() & SPEC_I_PT != 0;
    if specifies && model.key(step.node).is_none() {
        let (_, ids) = transport_ids(out)?;
        let named = |node: Node| {
            let address = node.address().to_be_bytes();
            let ids = ids.chunks(24).filter(|id| id.get(4..12) == Some(&address));
            ids.count()
        };
        let twice = named(step.node) > 0
            || model.key(step.node.other()).is_none() && named(step.node.other()) > 1;
        return twice.then_some(Exclusion::RegisteredTwice);
    }
    None
}

/// Asserts that the document and [`Deviation`] have the same ids.
pub(crate) fn check_document() {
    // The second table of the document has some of the rows again.
    let documented: BTreeSet<&str> = DOCUMENT.lines().filter_map(documented_id).collect();
    let known = Deviation::ALL.iter().map(|deviation| deviation.id());
    table::assert_same(
        ("docs/lio-differences.md", documented),
        ("lio_deviations/mod.rs", known),
    );
}

/// Returns the id of a table row: `| L01 | … |`.
fn documented_id(line: &str) -> Option<&str> {
    let id = line.strip_prefix('|')?.split('|').next()?.trim();
    let number = id.strip_prefix('L')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}
