//! When a server that does worse than the others of its pool is ejected.

use super::place::At;
use super::plan::{OutlierPlan, ServerPlan};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use crate::pool::outlier::allowance;
use crate::units::Factor;

pub(super) fn outlier(section: Section<'_>) -> OutlierPlan {
    let outlier = OutlierPlan {
        consecutive_errors: section.nullable_count("consecutive_errors"),
        worse_by: section.nullable_percent("worse_by"),
        slower_than: section.nullable("slower_than", factor),
        window: section.duration("window"),
        base_ejection: section.duration("base_ejection"),
        max_ejection: section.duration("max_ejection"),
        max_ejected: section.percent("max_ejected"),
    };
    if outlier.max_ejection < outlier.base_ejection {
        section.get("max_ejection").unwrap_or(section.at).refuse(Fault::new(
            format!(
                "no ejection is longer than {:?}, and the first one lasts {:?} by `base_ejection`",
                outlier.max_ejection, outlier.base_ejection
            ),
            "lengthen `max_ejection`, or shorten `base_ejection`",
        ));
    }
    if outlier.consecutive_errors.is_none() && outlier.worse_by.is_none() && outlier.slower_than.is_none() {
        section.at.warn(Fault::new(
            "nobody is ever ejected: each reason to is null",
            "give `consecutive_errors`, `worse_by` or `slower_than`; or write `outlier: null`",
        ));
    }
    outlier
}

fn factor(scalar: &Scalar<'_>) -> Result<Factor, Fault> {
    let factor: Factor = scalar.text.parse().map_err(|_| {
        Fault::new(format!("{} is not a factor", quoted(&scalar.text)), "write it like `5x` or `2.5x`")
    })?;
    match (1.1..=1000.0).contains(&factor.get()) {
        true => Ok(factor),
        false => Err(Fault::new(format!("{factor} is out of range"), "use 1.1x to 1000x")),
    }
}

/// Where the servers are known, says of a pool that can do without none that nothing will be ejected there.
pub(super) fn warn_of_few(at: At<'_>, outlier: &OutlierPlan, servers: &[ServerPlan], is_discovered: bool) {
    let used = servers.iter().filter(|server| !server.drain).count();
    if !is_discovered && allowance(used, outlier.max_ejected) == 0 {
        at.warn(Fault::new(
            "nobody is ever ejected: the pool has no server to do without",
            "add a second server, or remove `outlier`",
        ));
    }
}
