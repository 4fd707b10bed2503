//! What `promferry aws` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be looked at of AWS.
#[derive(Debug, Subcommand)]
pub enum Aws {
    /// Say with whose credentials each signed endpoint is written to, where they come from, and whether they may write;
    /// where not, what is missing, with the policy to paste. Exit status 0 when all may, 1 when one may not, 2 when
    /// the configuration is wrong.
    Whoami(WhoamiArgs),
}

/// The flags of `aws whoami`.
#[derive(Clone, Debug, Default, Args)]
pub struct WhoamiArgs {
    /// Take endpoints from remote_write in this configuration: those with a sigv4 block.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The endpoints to ask for, by name; all that are signed when none is named.
    #[arg(long = "endpoint", value_name = "NAME", requires = "config_file")]
    pub endpoints: Vec<String>,
    /// The URL of remote write to ask for, without a configuration.
    #[arg(long, value_name = "URL", conflicts_with = "config_file")]
    pub url: Option<String>,
    /// The region, where neither the URL nor AWS_REGION tells it.
    #[arg(long, value_name = "REGION", conflicts_with = "config_file")]
    pub region: Option<String>,
    /// A role to assume with the credentials found.
    #[arg(long = "role-arn", value_name = "ARN", conflicts_with = "config_file")]
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    #[arg(long = "external-id", value_name = "ID", conflicts_with = "config_file")]
    pub external_id: Option<String>,
    /// Do not ask the endpoints. Otherwise each gets a remote write of no series, which stores nothing.
    #[arg(long = "no-write")]
    pub no_write: bool,
    /// Print every policy that the whole way needs too, whether it is there or not.
    #[arg(long)]
    pub policies: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}
