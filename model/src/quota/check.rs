//! Decides whether creates fit into quotas. This module does no IO.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L399-L591>

use super::super::object::Quota;
use super::{Admitted, Charge, Denied, Waiter};

/// Checks the waiters in order, each against the usage that includes the earlier ones, and adds
/// those that fit to `quotas`.
///
/// A waiter that fits and changes a quota stays undecided until the quota is written.
pub(super) fn batch(quotas: &mut Vec<Quota>, waiters: &mut [Waiter]) {
    for waiter in waiters {
        match request(quotas, &waiter.charge) {
            Err(denied) => waiter.result = Some(Err(denied)),
            Ok(_) if waiter.charge.dry_run => waiter.result = Some(Ok(Admitted::DryRun)),
            Ok(None) => waiter.result = Some(Ok(Admitted::Unlimited)),
            Ok(Some(charged)) => *quotas = charged,
        }
    }
}

/// The quotas with `charge` added. `None` if no quota limits it.
fn request(quotas: &[Quota], charge: &Charge) -> Result<Option<Vec<Quota>>, Denied> {
    for quota in quotas {
        specified(quota, charge)?;
        status_known(quota, charge)?;
    }
    let mut out = quotas.to_vec();
    let mut charged = false;
    for quota in &mut out {
        let requested = charge.usage.masked(&quota.hard);
        if requested.is_zero() {
            continue;
        }
        let before = quota.used.clone();
        quota.used.add(&requested);
        let exceeded = quota.used.masked(&requested).exceeding(&quota.hard);
        if exceeded.names().next().is_some() {
            return Err(Denied::Exceeded {
                quota: quota.name.clone(),
                requested: requested.masked(&exceeded).pretty(),
                used: before.masked(&exceeded).pretty(),
                limited: quota.hard.masked(&exceeded).pretty(),
            });
        }
        charged = true;
    }
    Ok(charged.then_some(out))
}

/// A quota on a compute resource requires every container to specify that resource.
fn specified(quota: &Quota, charge: &Charge) -> Result<(), Denied> {
    let missing: Vec<_> = quota
        .hard
        .names()
        .filter(|name| charge.unspecified.contains(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Denied::Unspecified {
        quota: quota.name.clone(),
        resources: missing.join(","),
    })
}

/// A quota without computed usage denies every create that it limits.
fn status_known(quota: &Quota, charge: &Charge) -> Result<(), Denied> {
    let limited: Vec<_> = charge
        .usage
        .masked(&quota.hard)
        .names()
        .map(str::to_owned)
        .collect();
    if limited.iter().all(|name| quota.used.milli(name).is_some()) {
        return Ok(());
    }
    Err(Denied::StatusUnknown {
        quota: quota.name.clone(),
        resources: limited.join(","),
    })
}
