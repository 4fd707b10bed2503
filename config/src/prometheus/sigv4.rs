//! What can be said about `sigv4` before anything is signed.

use http::Uri;
use promferry_sigv4_auth::{BaseCredentials, Environment, SigV4Config, account_of};

use crate::yaml::{Mapping, NodeError};
use crate::{Endpoint, Env, ErrorKind, Global};

/// Refuses an endpoint whose region can't be told. It is told from the same things as when it is signed for.
pub(super) fn check_scope(
    config: &SigV4Config,
    block: &Mapping<'_>,
    url: &Uri,
    env: &dyn Env,
) -> Result<(), NodeError> {
    let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let environment = Environment::from_pairs(
        variables.into_iter().filter_map(|name| env.variable(name).map(|value| (name, value))),
    );
    let scope = config.scope(url.host().unwrap_or_default(), &environment);
    scope.map(|_| ()).map_err(|error| {
        let message = format!("{error} (or AWS_REGION in the environment)");
        NodeError::new(ErrorKind::Value, message)
            .at(block.get("region").map_or_else(|| block.at(), |entry| entry.value.at))
    })
}

/// A warning if the endpoint writes as a role that may well be another account's, as many clusters then do, and its
/// series leave without a label that tells this cluster from the others. `role` is the path to its ARN.
pub(crate) fn no_distinguishing_label(
    endpoint: &Endpoint,
    block: &Mapping<'_>,
    role: &[String],
    global: &Global,
    env: &dyn Env,
) -> Option<NodeError> {
    let credentials = endpoint.sigv4.as_ref()?.credentials();
    let account = account_of(&credentials.roles.last()?.role_arn)?;
    // With IRSA the pod's own account is known, where the configuration is read in the pod.
    let own = env.variable("AWS_ROLE_ARN").filter(|_| credentials.base == BaseCredentials::DefaultChain);
    if own.as_deref().and_then(account_of) == Some(account)
        || !endpoint.distinguishing_labels(global).is_empty()
    {
        return None;
    }
    let without_relabelling = {
        let mut endpoint = endpoint.clone();
        endpoint.write.write_relabel_configs.clear();
        endpoint.distinguishing_labels(global)
    };
    let (none, advice) = match without_relabelling.iter().next() {
        None => ("no external label tells", "set global.external_labels.cluster".to_owned()),
        Some(label) => {
            ("write_relabel_configs leave no external label that tells", format!("keep {}", label.name))
        }
    };
    let message = format!(
        "{none} this cluster from others ({advice}): two clusters with the same pod addresses would write the same \
         series through a role of account {account}"
    );
    // It is for the operator to say whether there are others.
    Some(NodeError { kind: ErrorKind::Unsupported, ..NodeError::at_path(block, role, message) })
}
