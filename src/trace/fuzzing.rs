//! What the fuzz targets call of this module.

use http::HeaderMap;

use super::context::Context;

/// The id, the parent and the state of the trace in the headers, and whether it is sampled. Then
/// the headers get this parent.
pub fn continued(headers: &mut HeaderMap, parent: u64) -> Option<(u128, u64, String, bool)> {
    let context = Context::of(headers)?;
    context.set_parent(parent, headers);
    let sampled = context.is_sampled();
    Some((context.trace_id, context.parent, context.state, sampled))
}
