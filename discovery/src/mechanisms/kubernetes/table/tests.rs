use serde_json::json;

use super::*;

fn pod(name: &str, version: u64, phase: &str) -> Object {
    let metadata = json!({ "name": name, "namespace": "shop", "resourceVersion": version.to_string() });
    let pod = json!({ "metadata": metadata, "status": { "phase": phase } });
    Object::Pod(serde_json::from_value(pod).unwrap())
}

fn phase(table: &Table, name: &str) -> Option<SmolStr> {
    match table.object(table.find(Resource::Pods, "shop", name)?)? {
        Object::Pod(pod) => Some(pod.status.phase),
        _ => None,
    }
}

#[test]
fn a_stale_watch_does_not_overwrite_a_newer_object() {
    let mut table = Table::default();
    let [fast, slow] = [0, 1].map(|_| table.add_collection(Resource::Pods, None));
    let slot = table.put(fast, pod("web", 9, "Pending")).unwrap();
    assert!(slot.is_some());
    assert_eq!(table.put(fast, pod("web", 12, "Running")).unwrap(), slot);
    // It has it now as well: that is all that changes, and it changes once.
    assert_eq!(table.put(slow, pod("web", 9, "Pending")).unwrap(), slot);
    assert_eq!(table.put(slow, pod("web", 10, "Pending")).unwrap(), None);
    assert_eq!(phase(&table, "web").unwrap(), "Running");
    assert_eq!(table.put(slow, pod("web", 12, "Running")).unwrap(), None);
    assert_eq!(table.put(slow, pod("web", 13, "Failed")).unwrap(), slot);
    assert_eq!(phase(&table, "web").unwrap(), "Failed");
    // One that says itself that it has gone back is believed: the cluster was restored.
    assert_eq!(table.put(slow, pod("web", 11, "Running")).unwrap(), slot);
    assert_eq!(phase(&table, "web").unwrap(), "Running");
    // One that no longer has the object does not hold up the other.
    table.put(slow, pod("web", 20, "Unknown")).unwrap();
    assert_eq!(table.remove(slow, &pod("web", 21, "")), slot);
    assert_eq!(table.put(fast, pod("web", 19, "Failed")).unwrap(), slot);
    assert_eq!(phase(&table, "web").unwrap(), "Failed");
}

/// Of a cluster that was restored to an earlier version one collection hears before the other.
#[test]
fn who_was_passed_over_is_believed_when_the_other_loses_the_object() {
    type Lose = fn(&mut Table, CollectionId);
    let by_list: Lose = |table, id| {
        table.begin_list(id);
        assert_eq!(table.end_list(id).len(), 1);
    };
    let by_watch: Lose = |table, id| assert!(table.remove(id, &pod("web", 51, "")).is_some());
    let by_end: Lose = |table, id| {
        assert_eq!(table.empty_collection(id).len(), 1);
        table.forget_collection(id);
    };
    for lose in [by_list, by_watch, by_end] {
        let mut table = Table::default();
        let [all, selected] = [0, 1].map(|_| table.add_collection(Resource::Pods, None));
        table.put(all, pod("web", 9, "Pending")).unwrap();
        table.put(selected, pod("web", 100, "Running")).unwrap();
        table.begin_list(all);
        assert_eq!(table.put(all, pod("web", 50, "Succeeded")).unwrap(), None);
        assert!(table.end_list(all).is_empty());
        assert_eq!(phase(&table, "web").unwrap(), "Running");
        // Its texts are needed until then.
        table.sweep();
        lose(&mut table, selected);
        assert_eq!(phase(&table, "web").unwrap(), "Succeeded");
        assert!(table.passed_over.is_empty());
        // From there on it goes on.
        assert!(table.put(all, pod("web", 52, "Failed")).unwrap().is_some());
        assert_eq!(phase(&table, "web").unwrap(), "Failed");
    }
}

#[test]
fn a_deletion_does_not_bring_back_what_a_slow_watch_said() {
    let mut table = Table::default();
    let [slow, fast] = [0, 1].map(|_| table.add_collection(Resource::Pods, None));
    table.put(slow, pod("web", 9, "Pending")).unwrap();
    table.put(fast, pod("web", 12, "Running")).unwrap();
    table.put(slow, pod("web", 10, "Pending")).unwrap();
    table.remove(fast, &pod("web", 13, "")).unwrap();
    assert_eq!(phase(&table, "web").unwrap(), "Running");
    table.put(slow, pod("web", 12, "Running")).unwrap();
    assert!(table.passed_over.is_empty());
    // What nobody has any more leaves nothing behind.
    table.put(fast, pod("web", 20, "Failed")).unwrap();
    table.put(slow, pod("web", 19, "Running")).unwrap();
    for id in [slow, fast] {
        table.remove(id, &pod("web", 21, "")).unwrap();
    }
    let slot = table.find(Resource::Pods, "shop", "web").unwrap();
    assert!(table.forget_if_alone(slot) && table.passed_over.is_empty());
}

#[test]
fn a_list_says_what_is_gone() {
    let mut table = Table::default();
    let [id, other] = [0, 1].map(|_| table.add_collection(Resource::Pods, None));
    for name in ["a", "b", "c"] {
        table.put(id, pod(name, 1, "")).unwrap();
    }
    table.put(other, pod("c", 1, "")).unwrap();
    // One that breaks off says nothing.
    table.begin_list(id);
    table.put(id, pod("a", 1, "")).unwrap();
    table.begin_list(id);
    table.put(id, pod("b", 1, "")).unwrap();
    let gone = table.end_list(id);
    assert_eq!(gone.iter().map(|slot| table.name(*slot).2).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(gone.iter().map(|slot| table.forget_if_alone(*slot)).collect::<Vec<_>>(), [true, false]);
    table.free(gone[0]);
    assert_eq!((table.count(id), table.count(other)), (1, 1));
    assert!(table.find(Resource::Pods, "shop", "a").is_none());
    // Its slot is another one's now.
    assert_eq!(table.put(id, pod("d", 2, "")).unwrap(), Some(gone[0]));
}

/// Names that come and go leave nothing behind.
#[test]
fn texts_that_nobody_needs_are_removed() {
    let mut table = Table::default();
    let id = table.add_collection(Resource::Pods, None);
    for number in 0..10_000 {
        let kept = format!("kept-{}", number % 50);
        table.put(id, pod(&kept, number, &format!("phase-{number}"))).unwrap();
        let slot = table.put(id, pod(&format!("pod-{number}"), number, "")).unwrap().unwrap();
        assert_eq!(table.remove(id, &pod(&format!("pod-{number}"), 0, "")), Some(slot));
        assert!(table.forget_if_alone(slot));
        table.free(slot);
        assert_eq!(phase(&table, &kept).unwrap(), format!("phase-{number}"));
    }
    assert_eq!(table.count(id), 50);
    assert!((1000..300_000).contains(&table.memory_bytes()), "{}", table.memory_bytes());
    assert!(table.slots.len() < 60 && table.symbols.len() < 3 * MIN_OUTDATED, "{}", table.symbols.len());
}
