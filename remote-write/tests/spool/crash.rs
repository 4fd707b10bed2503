//! A crash after every storage call of one scripted run, and what has to be true afterwards.

use promferry_model::SeededRng;
use promferry_remote_write::spool::FsyncPolicy;
use promferry_remote_write::spool::sim::SimDisk;

use crate::world::{Promise, World};

/// Two logs, four endpoints: one keeps up, one lags until its oldest segments are dropped, one has a log of
/// its own, one leaves the configuration and is given up; restarts in between, an endpoint that changes its log, and
/// a disk that is full for a while.
fn script(world: &mut World) {
    world.open();
    world.attach("a", "x");
    world.attach("b", "x");
    world.attach("c", "y");
    world.attach("leaves", "x");
    for round in 0..8 {
        world.append(&["x", "y"], 1 + round % 3);
        if round % 2 == 1 {
            world.fetch("a", 2_000);
            world.settle_all("a");
            world.fetch("c", 700);
            world.settle_lane("c", round % 5);
        }
    }
    world.fetch("b", 1_500);
    world.leave("leaves");
    world.reopen();
    for round in 0..6 {
        // In flight while the segments they are in are dropped.
        if round == 1 {
            world.fetch("b", 1_500);
        }
        world.append(&["x"], 3);
        world.fetch("a", 10_000);
        world.settle_all("a");
    }
    world.forget("leaves");
    world.settle_lane("b", 1);
    world.settle_all("b");
    world.append(&["y"], 2);
    world.attach("a", "y");
    world.append(&["x", "y"], 2);
    world.fetch("a", 1_000);
    world.settle_all("a");
    world.drop_fetched("c", 600);
    world.append_while_the_disk_fails(&["x", "y"], 2);
    world.append(&["y"], 1);
    world.maintain();
    world.reopen();
    world.append(&["y"], 1);
    world.fetch("c", 100_000);
    world.settle_all("c");
    world.close();
}

fn total_calls(fsync: FsyncPolicy) -> u64 {
    let mut world = World::new(SimDisk::new(), fsync);
    script(&mut world);
    assert!(world.dropped_anything(), "the script has to fill a log");
    // Four cursors and two keys are new, and what is short of a rewrite proves nothing about one.
    assert!(world.disk.renames() > 10, "the script has to rewrite cursors: {}", world.disk.renames());
    world.disk.calls()
}

#[test]
fn the_script_itself_keeps_every_promise() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::Always] {
        let mut world = World::new(SimDisk::new(), fsync);
        script(&mut world);
        world.check(Promise::Everything);
    }
}

#[test]
fn a_process_that_ends_after_any_call_loses_nothing() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::Always] {
        for call in 0..total_calls(fsync) {
            for torn in [false, true] {
                let disk = SimDisk::new();
                if torn {
                    disk.crash_within(call);
                } else {
                    disk.crash_after(call);
                }
                let mut world = World::new(disk, fsync);
                world.note(format!("crash at call {call}, torn: {torn}, {fsync:?}"));
                script(&mut world);
                world.end_process();
                world.check(Promise::Everything);
            }
        }
    }
}

#[test]
fn a_process_that_ends_while_it_recovers_from_its_end_loses_nothing() {
    let calls = total_calls(FsyncPolicy::Always);
    for call in (0..calls).step_by(19) {
        for again in 0.. {
            let disk = SimDisk::new();
            disk.crash_within(call);
            let mut world = World::new(disk, FsyncPolicy::Always);
            world.note(format!("crash at call {call}, and at call {again} of the recovery"));
            script(&mut world);
            world.end_process();
            world.disk.crash_within(again);
            world.open();
            let recovered = !world.disk.crashed();
            if again % 2 == 0 {
                world.end_process();
            } else {
                world.lose_machine(&mut SeededRng::new(call * 16 + again));
            }
            world.check(Promise::Everything);
            if recovered {
                break;
            }
        }
    }
}

#[test]
fn a_machine_that_is_lost_after_any_call_loses_nothing_that_was_synced() {
    for call in 0..total_calls(FsyncPolicy::Always) {
        for seed in 0..4 {
            let disk = SimDisk::new();
            disk.crash_within(call);
            let mut world = World::new(disk, FsyncPolicy::Always);
            world.note(format!("crash at call {call}, seed {seed}"));
            script(&mut world);
            world.lose_machine(&mut SeededRng::new(call * 16 + seed));
            world.check(Promise::Everything);
        }
    }
}

#[test]
fn a_machine_that_is_lost_without_syncs_keeps_order_and_a_ledger_that_balances() {
    for call in 0..total_calls(FsyncPolicy::Never) {
        for seed in 0..4 {
            let disk = SimDisk::new();
            disk.crash_within(call);
            let mut world = World::new(disk, FsyncPolicy::Never);
            world.note(format!("crash at call {call}, seed {seed}"));
            script(&mut world);
            world.lose_machine(&mut SeededRng::new(call * 16 + seed));
            world.check(Promise::OrderAndBalance);
        }
    }
}
