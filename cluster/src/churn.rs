//! Objects of all kinds that discovery knows, and random changes to them.

mod judge;
mod objects;
mod storm;

pub use judge::Judge;
pub use storm::{Storm, StormCounts};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Method, StatusCode};
use promferry_model::{Rng, SeededRng};
use serde_json::{Value, json};
use smol_str::{SmolStr, format_smolstr};

use crate::Cluster;
use objects::{Kind, Name, key, object, path};

/// Namespaces; each has every kind of object that is in one.
const NAMESPACES: u64 = 20;
/// So many in a hundred places are taken at the beginning.
const TAKEN: u64 = 85;
/// Of a hundred changes to an object that is there, so many delete it.
const DELETIONS: u64 = 15;
/// Of a hundred others, so many go through the API, as a PATCH of its labels; the rest is written straight into etcd.
const PATCHES: u64 = 30;

/// An overloaded API server is asked again so often, with this pause between.
const OVERLOAD_TRIES: usize = 120;
const OVERLOAD_PAUSE: Duration = Duration::from_millis(500);

/// About a thousand objects, each with a label `seq`: how often it was changed.
///
/// It only grows, also over a deletion, so that who watches can tell a step back. What is made of chance comes from the
/// seed alone.
#[derive(Debug)]
pub struct World {
    chance: SeededRng,
    /// All there may be, and how often each was changed; an object that is not there has none.
    places: Vec<(Name, u64, Option<Value>)>,
    changes: u64,
}

impl World {
    /// Nothing is written yet.
    pub fn new(seed: u64) -> Self {
        let mut names = Vec::new();
        for namespace in 0..NAMESPACES {
            let namespace = format_smolstr!("churn-{namespace:02}");
            names.push(Name {
                kind: Kind::Namespace,
                namespace: SmolStr::default(),
                name: namespace.clone(),
            });
            for (kind, most) in Kind::NAMESPACED {
                names.extend((0..*most).map(|index| Name {
                    kind: *kind,
                    namespace: namespace.clone(),
                    name: format_smolstr!("{}-{index}", kind.word()),
                }));
            }
        }
        names.extend((0..objects::NODES).map(|index| Name {
            kind: Kind::Node,
            namespace: SmolStr::default(),
            name: format_smolstr!("node-{index}"),
        }));
        let places = names.into_iter().map(|name| (name, 0, None)).collect();
        Self { chance: SeededRng::new(seed), places, changes: 0 }
    }

    /// Writes what is there at the beginning: all namespaces and most of the rest.
    ///
    /// # Panics
    /// When etcd refuses it.
    pub async fn populate(&mut self, cluster: &Cluster) {
        let mut written = Vec::new();
        for (name, seq, place) in &mut self.places {
            if name.kind == Kind::Namespace || self.chance.next_u64() % 100 < TAKEN {
                *seq = 1;
                let object = object(name, *seq, &mut self.chance);
                written.push((key(name), object.clone()));
                *place = Some(object);
            }
        }
        cluster.etcd_put(&written).await;
    }

    /// Changes one object: it appears, disappears or is different. While the API server is down (`is_up` is false)
    /// everything is written straight into etcd.
    ///
    /// # Panics
    /// When etcd or the API server refuses it.
    pub async fn change(&mut self, cluster: &Cluster, is_up: bool) {
        self.changes += 1;
        let index = (self.chance.next_u64() % self.places.len() as u64) as usize;
        let (name, seq, place) = &mut self.places[index];
        *seq += 1;
        let Some(there) = place else {
            let object = object(name, *seq, &mut self.chance);
            cluster.etcd_put(&[(key(name), object.clone())]).await;
            *place = Some(object);
            return;
        };
        if name.kind != Kind::Namespace && self.chance.next_u64() % 100 < DELETIONS {
            cluster.etcd_delete(&[key(name)]).await;
            *place = None;
            return;
        }
        if is_up && self.chance.next_u64() % 100 < PATCHES {
            let patch = json!({ "metadata": { "labels": { "seq": seq.to_string() } } });
            let (status, answer) = cluster.call(Method::PATCH, &path(name), Some(&patch)).await;
            // The API server learns of what was written past it a moment later than we.
            if status == StatusCode::OK {
                there["metadata"]["labels"]["seq"] = Value::from(seq.to_string());
                return;
            }
            let is_late = matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT);
            assert!(is_late || is_overloaded(status), "{}: {status}: {answer}", path(name));
        }
        let mut object = object(name, *seq, &mut self.chance);
        object["metadata"]["uid"] = there["metadata"]["uid"].take();
        cluster.etcd_put(&[(key(name), object.clone())]).await;
        *place = Some(object);
    }

    /// How many changes there were.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Chance of this world, for who shakes it.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.chance.next_u64() % most
    }

    /// The sources of target groups that a role should have now, with the number that each object carries; `role` as in
    /// `kubernetes_sd_configs`, with `attach_metadata: {node: true}`: then a pod on a node that is not there is no target.
    ///
    /// # Panics
    /// When there is no such role.
    pub fn expected(&self, role: &str) -> BTreeMap<SmolStr, u64> {
        let kind = Kind::of_role(role);
        let of = |kind| {
            let places = self.places.iter().filter(move |(name, _, _)| name.kind == kind);
            places.filter_map(|(name, _, place)| Some((name, place.as_ref()?)))
        };
        let nodes: BTreeSet<&str> = of(Kind::Node).map(|(name, _)| name.name.as_str()).collect();
        let with_targets = of(kind).filter_map(|(name, object)| {
            if kind == Kind::Pod && !objects::is_target(object, &nodes) {
                return None;
            }
            Some((objects::source(name), number_of(object)))
        });
        with_targets.collect()
    }

    /// Whether a source is of an object that this world may have.
    pub(crate) fn is_of(&self, source: &str) -> bool {
        self.places.iter().any(|(name, _, _)| objects::source(name) == source)
    }

    /// Compares what the API lists with what was written; gives what differs. At rest nothing does.
    ///
    /// # Panics
    /// When the API server does not answer, or is overloaded for more than a minute.
    pub async fn compare(&self, cluster: &Cluster) -> Vec<String> {
        let mut differences = Vec::new();
        for kind in Kind::ALL {
            let mut tries = 0..OVERLOAD_TRIES;
            let list = loop {
                let (status, list) = cluster.call(Method::GET, kind.list_path(), None).await;
                if status == StatusCode::OK {
                    break list;
                }
                let goes_on = is_overloaded(status) && tries.next().is_some();
                assert!(goes_on, "{}: {status}: {list}", kind.list_path());
                tokio::time::sleep(OVERLOAD_PAUSE).await;
            };
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let listed: BTreeSet<(String, String, u64)> = (items.iter())
                .filter(|item| item["metadata"]["labels"]["seq"].is_string())
                .map(|item| {
                    let text = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
                    (text("namespace"), text("name"), number_of(item))
                })
                .collect();
            let written: BTreeSet<(String, String, u64)> = (self.places.iter())
                .filter(|(name, _, _)| name.kind == *kind)
                .filter_map(|(name, _, place)| {
                    let object = place.as_ref()?;
                    Some((name.namespace.to_string(), name.name.to_string(), number_of(object)))
                })
                .collect();
            differences.extend(written.difference(&listed).map(|it| format!("{kind:?} not listed: {it:?}")));
            differences.extend(listed.difference(&written).map(|it| format!("{kind:?} not written: {it:?}")));
        }
        differences
    }
}

/// What an API server says that has just begun (429, its caches are not filled yet) or cannot keep up.
fn is_overloaded(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// The number that an object carries.
fn number_of(object: &Value) -> u64 {
    object["metadata"]["labels"]["seq"].as_str().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_thousand_places_and_each_has_its_key() {
        let world = World::new(1);
        let keys: BTreeSet<_> = world.places.iter().map(|(name, _, _)| key(name)).collect();
        assert_eq!(keys.len(), world.places.len());
        assert!((900..1200).contains(&keys.len()), "{}", keys.len());
        assert!(world.expected("pod").is_empty());
    }
}
