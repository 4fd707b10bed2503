//! What `promferry demo` takes.

use clap::Args;

/// The flags of `demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Leave out the scenes in which something goes wrong: a few seconds instead of a minute.
    #[arg(long)]
    pub fast: bool,
    /// Run for this many seconds, however long the scenes take; 0 means until they are told.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub seconds: u64,
}
