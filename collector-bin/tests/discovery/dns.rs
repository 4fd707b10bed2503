//! `dns_sd_configs`: names as a pod's `resolv.conf` has them looked up.

use std::path::Path;
use std::process::Command;

use promferry_bench::peers::Peer;

use crate::beside::{Beside, has};
use crate::collector::{is_full_tier, until};
use crate::dns_server::{Answer, DnsServer, Record};
use crate::inside;
use crate::sandbox::bubblewrap;

const TEST: &str = "dns::names_are_looked_up_as_prometheus_looks_them_up";

/// As Kubernetes writes it for a pod of the namespace `prod`.
const RESOLV_CONF: &str = "nameserver 127.0.0.77\n\
                           search prod.svc.cluster.local svc.cluster.local cluster.local\n\
                           options ndots:5\n";

/// Prometheus asks the servers of /etc/resolv.conf at port 53 only: both run in a network of their own, for which this
/// program runs itself.
#[test]
fn names_are_looked_up_as_prometheus_looks_them_up() {
    // Built in the full tier only.
    let Some(prometheus) = Peer::PrometheusDiscovery.path() else {
        assert!(!is_full_tier(), "{TEST}: scripts/peers did not provide prometheus-discovery");
        return eprintln!(
            "SKIPPED {TEST}: no Prometheus with discovery, run scripts/peers prometheus-discovery"
        );
    };
    if inside::is_inside() {
        return inside::run(compare(&prometheus));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, RESOLV_CONF).unwrap();
    let command =
        std::fs::canonicalize("/etc/resolv.conf").map_err(|error| error.to_string()).and_then(|of| {
            let shown = |path: &Path| path.display().to_string();
            let mount = ["--ro-bind".to_owned(), shown(&file), shown(&of)];
            bubblewrap(&[&mount[..], &["--unshare-net".to_owned()]].concat())
        });
    let command = match command {
        Ok(command) => command,
        Err(reason) => {
            assert!(!is_full_tier(), "{TEST}: {reason}");
            return eprintln!("SKIPPED {TEST}: {reason}");
        }
    };
    let mut sandbox = Command::new(&command[0]);
    sandbox.args(&command[1..]);
    inside::run_again(sandbox, TEST);
}

async fn compare(prometheus: &Path) {
    let server = DnsServer::start("127.0.0.77:53".parse().unwrap()).await;
    let a = |last: &[u8]| last.iter().map(|last| Record::A([10, 0, 0, *last].into())).collect::<Vec<_>>();
    let records = |records: Vec<Record>| Answer::Records(records);
    server.set("web.prod.svc.cluster.local", records(a(&[1, 2])));
    server.set("api.monitoring.svc.cluster.local", records(a(&[3])));
    server.set(
        "example.com",
        records([a(&[4]), vec![Record::Ns("ns1.example.com"), Record::Ns("ns2.example.com")]].concat()),
    );
    let v6 = ["fd00::1", "::ffff:10.0.0.9"].map(|address| Record::Aaaa(address.parse().unwrap()));
    server.set("six.example.com", records([v6.to_vec(), a(&[5])].concat()));
    server.set(
        "mail.example.com",
        records(vec![Record::Mx(10, "mx1.example.com"), Record::Mx(5, "Mx2.example.com")]),
    );
    let srv = vec![
        Record::Srv(9100, "a.example.com"),
        Record::Srv(9101, "b.example.com"),
        Record::Srv(9100, "a.example.com"),
    ];
    server.set("_metrics._tcp.web.prod.svc.cluster.local", records(srv));
    server.set("alias.example.com", records(vec![Record::Alias("second.example.com")]));
    server.set("second.example.com", records(vec![Record::Alias("example.com")]));
    server.set("many.prod.svc.cluster.local", Answer::OverTcp(a(&(1..=200).collect::<Vec<_>>())));
    server.set("none.example.com", records(Vec::new()));
    server.set("good.example.com", records(a(&[6])));
    server.set("broken.example.com", Answer::Failure);
    server.set("later.example.com", Answer::Failure);
    // Of one domain of the search list nobody can tell anything; the next one knows the name.
    server.set("half.prod.svc.cluster.local", Answer::Failure);
    server.set("half.svc.cluster.local", records(a(&[7])));
    server.set("doubt.svc.cluster.local", Answer::Failure);

    let jobs = [
        ("a", "names: [web, api.monitoring, example.com, example.com.], type: A, port: 80"),
        ("ipv6", "names: [six.example.com.], type: AAAA, port: 80"),
        ("ipv4-of-six", "names: [six.example.com.], type: A, port: 80"),
        ("mx", "names: [mail.example.com.], type: MX, port: 25"),
        ("mx-default", "names: [mail.example.com.], type: mx, port: 26"),
        ("ns", "names: [example.com.], type: NS, port: 53"),
        ("srv", "names: [_metrics._tcp.web]"),
        ("srv-of-a", "names: [web], type: SRV"),
        ("alias", "names: [alias.example.com.], type: A, port: 80"),
        ("many", "names: [many], type: A, port: 80"),
        ("none", "names: [none.example.com., absent, absent.example.com.], type: A, port: 80"),
        (
            "failing",
            "names: [good.example.com., broken.example.com., later.example.com., half, doubt], type: A, port: 80",
        ),
        ("upper-case", "names: [EXAMPLE.com., Example.com], type: a, port: 80"),
        ("same-twice", "names: [web, web], type: A, port: 80"),
    ];
    let jobs = jobs.map(|(name, of)| (name, format!("  dns_sd_configs: [{{{of}, refresh_interval: 1s}}]")));
    let both = Beside::start(prometheus, &jobs, "").await;
    let first = [
        ("a", vec!["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]),
        ("srv", vec!["a.example.com:9100", "b.example.com:9101"]),
        ("alias", vec!["10.0.0.4:80"]),
        ("none", vec![]),
        ("failing", vec!["10.0.0.6:80", "10.0.0.7:80"]),
    ];
    both.until_same("names", |targets| {
        has(&first)(targets)?;
        if targets["many"].len() == 200 { Ok(()) } else { Err("not many".to_owned()) }
    })
    .await;

    // What is gone is gone; of what nobody can tell anything, what was told before holds.
    server.set("web.prod.svc.cluster.local", records(a(&[8])));
    server.set("api.monitoring.svc.cluster.local", None);
    server.set("many.prod.svc.cluster.local", records(a(&[1])));
    server.set("good.example.com", Answer::Failure);
    server.set("later.example.com", records(a(&[9])));
    server.set("half.svc.cluster.local", None);
    let second = [
        ("a", vec!["10.0.0.8:80", "10.0.0.4:80"]),
        ("many", vec!["10.0.0.1:80"]),
        ("failing", vec!["10.0.0.6:80", "10.0.0.7:80", "10.0.0.9:80"]),
    ];
    both.until_same("changed", has(&second)).await;
    let asked = server.asked("good.example.com");
    // Both ask a few times more, and it makes no difference.
    until("good.example.com is asked for", async || server.asked("good.example.com") > asked + 6).await;
    both.until_same("still so", has(&second)).await;
}
