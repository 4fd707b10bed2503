//! Each check is seen to refuse once, in AWS' words; the same call with that one thing right passes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, one that skips says so"
)]

mod faults;
mod kubernetes;
mod moto;
mod raw;
mod sdk;
mod sts;
mod web_identities;
mod workspaces;
mod world;

use promferry_aws_stand_in::Cloud;

use crate::world::{World, moto_or_skip};

/// In memory each table is a test; over moto all of them are one, for its server takes a second to start.
macro_rules! tables {
    ($($test:ident: $table:path,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $table(&World::over(Cloud::memory()).await).await;
            }
        )*

        #[tokio::test]
        async fn all_over_moto() {
            let Some(moto) = moto_or_skip("all_over_moto").await else { return };
            $(
                println!("{}", stringify!($test));
                $table(&World::over(Cloud::moto(moto.clone())).await).await;
                moto.reset().await;
            )*
        }
    };
}

tables! {
    parameters: sts::parameters,
    roles: sts::roles,
    users: sts::users,
    trust_within_an_account: sts::trust_within_an_account,
    signatures_of_calls: sts::signatures,
    sessions_expire: sts::sessions_expire,
    calls_are_recorded: sts::calls_are_recorded,
    web_identities: web_identities::web_identities,
    signatures_of_writes: workspaces::signatures,
    policies_within_an_account: workspaces::policies_within_an_account,
    policies_between_accounts: workspaces::policies_between_accounts,
    a_chained_role_writes: workspaces::a_chained_role_writes,
    guardrails: workspaces::guardrails,
}
