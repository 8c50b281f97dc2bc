// SPDX-License-Identifier: MIT OR Apache-2.0

//! JSON document of a demonstration.

use super::Demonstration;
use super::runner::{NodeResponse, StepResult};
use super::scenario::Node;
use crate::error::ErrorText;
use crate::output::json::{Json, ToJson, array, error, held_by, object};

/// Returns the document for a demonstration. `error_text` is the text of its error.
pub(super) fn document(demonstration: &Demonstration, error_text: Option<&ErrorText>) -> Json {
    let mut members = vec![
        ("success", demonstration.passed().into()),
        ("helper", demonstration.info.helper.as_path().into()),
        ("lun", demonstration.info.lun.as_path().into()),
        ("steps", array(&demonstration.steps)),
    ];
    if let (Some(source), Some(text)) = (&demonstration.error, error_text) {
        members.push(("error", error(source, text)));
    }
    Json::Object(members)
}

impl ToJson for StepResult {
    fn to_json(&self) -> Json {
        let state = &self.state;
        let registered = state.registered.iter();
        let reservation = state.reservation;
        object! {
            "title": self.step.headline,
            "node": self.step.node.name(),
            "command": self.step.action.to_string(),
            "response": self.response.as_ref().map(ToJson::to_json),
            "registrations": registered
                .map(|(node, key)| object! { "node": node.name(), "key": *key })
                .collect::<Json>(),
            "reservation": reservation.map(|(kind, holder)| held_by(kind, holder.map(Node::name))),
            "writers": state.writers.iter().map(|node| node.name()).collect::<Json>(),
            "mismatches": Json::from_iter(&self.mismatches),
        }
    }
}

impl ToJson for NodeResponse {
    fn to_json(&self) -> Json {
        let keys = self.keys.as_ref();
        object! {
            "status": self.status.to_json(),
            "sense": self.sense.as_ref().map(ToJson::to_json),
            "keys": keys.map(|keys| keys.iter().copied().collect::<Json>()),
        }
    }
}
