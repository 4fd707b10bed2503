//! That what is looked for secrets is what the program shows.

use promferry_aws_stand_in::Fault;

use crate::scene::{Scene, WORKSPACE};

/// What the program really shows is found in each of its places, for it is looked at while it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_found_wherever_it_is() {
    const SHOWN: &str = "a-name-that-is-shown-everywhere";
    let mut scene = Scene::new().await;
    scene.write_to(SHOWN, WORKSPACE, "");
    scene.workspaces.set_fault(Fault::Down);
    scene.start().await;
    scene.until_waiting(SHOWN, 3).await;
    let places = scene.places_of(SHOWN).join("\n");
    let pages = ["/metrics as */*", "/ as text/html", "/ as text/plain"];
    for place in pages.into_iter().chain(["/log: "]) {
        assert!(places.contains(place), "not in {place}:\n{places}");
    }
    // What waits: a value of the farm's pages.
    let places = scene.places_of(&scene.farm.addresses()[0].to_string()).join("\n");
    assert!(places.contains("/data/") && places.contains("/api/v1/targets"), "{places}");
}
