//! The demo tells the truth.

use crate::collector::output;

#[test]
fn it_balances_and_exits_with_0() {
    let (code, out, err) = output(&["demo", "--seconds", "6"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.lines().all(|line| line.starts_with("DEMO")), "{out}");
    assert!(out.contains("targets 3/3 up"), "{out}");
    let account = out.lines().find(|line| line.contains("It balances.")).expect(&out);
    let numbers: Vec<u64> =
        account.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [scrapes, accepted, delivered, refused, waiting, received, verified, requests] = numbers[..] else {
        panic!("{account}");
    };
    assert!(scrapes >= 9 && accepted >= 99, "{account}");
    assert_eq!((accepted, refused, waiting, received), (delivered, 0, 0, delivered), "{account}");
    assert_eq!(verified, requests, "{account}");
    assert!(verified > 0);
}
