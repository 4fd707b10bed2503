//! A real Kubernetes API server with its etcd on this machine, for tests and measurements.
//!
//! [`Cluster`] starts the two programs that `scripts/peers kube-apiserver etcd` builds. There is no kubelet, no scheduler
//! and no controller: what they would write, who uses this writes, by the API ([`Cluster::create`],
//! [`Cluster::apply_yaml`]) or, thousands of objects in a second, straight into etcd ([`Cluster::etcd_put`]).
//!
//! [`churn`] has a thousand objects of all kinds that change at random, and says whether who follows them has missed one.
//!
//! It is no stand-in: rights, watches, bookmarks, compaction and proxies are the API server's own.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use promferry_cluster::Cluster;
//! use serde_json::json;
//!
//! // Nothing, said aloud, where the two programs are not there.
//! let Some(cluster) = Cluster::start("an example").await else { return };
//! cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } })).await;
//! println!("{} takes {:?}", cluster.url(), cluster.kubeconfig("admin"));
//! # });
//! # Ok::<_, std::io::Error>(())
//! ```

pub mod churn;
mod cluster;
mod etcd;
mod kinds;
mod users;

pub use cluster::{Builder, Cluster};
pub use kinds::collection;
pub use users::USERS;
