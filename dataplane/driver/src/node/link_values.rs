//! Impairments of a link from plain values, with the fields that the controller's messages have.

use nm_engine::LinkSpec;
use nm_messages as wire;
use nm_messages::Value;

use crate::control::impairments;

/// Returns what a direction of a link does.
///
/// # Errors
///
/// A field has another type than in the messages, or the trace is none; says which.
pub fn link_spec(value: &Value, down: bool) -> Result<LinkSpec, String> {
    let link: wire::LinkSpec =
        rmpv::ext::from_value(value.clone()).map_err(|error| error.to_string())?;
    impairments(&link, down)
}
