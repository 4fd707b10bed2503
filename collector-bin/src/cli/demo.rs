//! What `promferry demo` takes.

use clap::Args;

/// The flags of `demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Stop by itself after this many seconds; 0 means at Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub seconds: u64,
}
