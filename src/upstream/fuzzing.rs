//! What the fuzz targets call of this module.

use http::Uri;

/// The servers that a line of the watch of EndpointSlices tells of.
pub fn servers_in(line: &[u8]) -> Option<Vec<Uri>> {
    super::discover::servers_in(line)
}
