//! What the fuzz targets call of this module.

use super::Kubeconfig;
use super::tree::to_yaml;

/// The kubeconfig as the proxy would write it.
pub fn written(kubeconfig: &Kubeconfig) -> String {
    to_yaml(&kubeconfig.merged())
}
