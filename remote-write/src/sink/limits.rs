use std::collections::BTreeMap;
use std::sync::Weak;

use super::Inner;
use crate::delivery::Phase;
use crate::usage::{ConfiguredLimits, LimitUsage, LimitWatch};

/// Says when an endpoint's limits are near, until delivery ends.
pub(super) async fn watch_limits(inner: Weak<Inner>) {
    let Some(mut phase) = inner.upgrade().map(|inner| inner.phase.subscribe()) else { return };
    let ended = async move { phase.wait_for(|phase| *phase != Phase::Running).await.is_ok() };
    tokio::pin!(ended);
    let mut watches: BTreeMap<String, LimitWatch> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = &mut ended => return,
            () = tokio::time::sleep(LimitWatch::PERIOD) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let endpoints = inner.endpoints();
        watches.retain(|key, _| endpoints.iter().any(|endpoint| endpoint.key == *key));
        for endpoint in &endpoints {
            let watch = watches.entry(endpoint.key.clone()).or_default();
            let limits = ConfiguredLimits::from(&endpoint.config);
            for usage in LimitUsage::all(&limits, &inner.usage(endpoint)) {
                match watch.judge(inner.clock.monotonic(), &endpoint.key, &usage) {
                    Some((text, true)) => tracing::error!("{text}"),
                    Some((text, false)) => tracing::warn!("{text}"),
                    None => {}
                }
            }
        }
    }
}
