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
    // By way of its bytes, because `rmpv` itself reads no words as the variants of an enumeration.
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).map_err(|error| error.to_string())?;
    let link: wire::LinkSpec = rmp_serde::from_slice(&bytes).map_err(|error| error.to_string())?;
    impairments(&link, down)
}
