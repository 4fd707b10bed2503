//! Where objects of a kind live in the API.

use serde_json::Value;

/// Kinds whose objects are in no namespace.
const OF_CLUSTER: &[&str] = &["Namespace", "Node", "ClusterRole", "ClusterRoleBinding"];

/// The path of the collection that an object belongs to, by its `apiVersion`, `kind` and `metadata.namespace`, such as
/// `/apis/apps/v1/namespaces/shop/replicasets`. An object without a namespace is in `default`, if its kind has any.
///
/// # Panics
/// When it has no `apiVersion` or no `kind`.
pub fn collection(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("no {name}: {object}"));
    let (version, kind) = (text("apiVersion"), text("kind"));
    let prefix = if version.contains('/') { "/apis" } else { "/api" };
    let place = match OF_CLUSTER.contains(&kind) {
        true => String::new(),
        false => format!("/namespaces/{}", object["metadata"]["namespace"].as_str().unwrap_or("default")),
    };
    let singular = kind.to_lowercase();
    let plural = match &*singular {
        "endpoints" => singular,
        other if other.ends_with('s') => format!("{singular}es"),
        _ => format!("{singular}s"),
    };
    format!("{prefix}/{version}{place}/{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_have_their_paths() {
        for (version, kind, namespace, path) in [
            ("v1", "Pod", Some("shop"), "/api/v1/namespaces/shop/pods"),
            ("v1", "Endpoints", Some("shop"), "/api/v1/namespaces/shop/endpoints"),
            ("v1", "Node", None, "/api/v1/nodes"),
            (
                "networking.k8s.io/v1",
                "Ingress",
                None,
                "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            ),
            ("apps/v1", "ReplicaSet", Some("a"), "/apis/apps/v1/namespaces/a/replicasets"),
            (
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                None,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            ),
        ] {
            let object =
                json!({ "apiVersion": version, "kind": kind, "metadata": { "namespace": namespace } });
            assert_eq!(collection(&object), path);
        }
    }
}
