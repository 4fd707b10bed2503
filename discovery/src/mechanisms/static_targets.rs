//! `static_configs`: targets written in the configuration.

use std::future::Future;
use std::pin::Pin;

use smol_str::format_smolstr;

use crate::{Discover, StaticConfig, Updates};

/// All `static_configs` of a job; the sources are "0", "1", ….
pub(crate) struct StaticTargets(pub(crate) Vec<StaticConfig>);

impl Discover for StaticTargets {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let groups = self.0.into_iter().enumerate();
        let groups = groups.map(|(index, config)| config.into_group(format_smolstr!("{index}"), &[]));
        updates.replace(groups.collect());
        updates.succeeded();
        Box::pin(std::future::ready(()))
    }
}
