//! Names, as a pod's `resolv.conf` has them looked up.

use std::net::Ipv4Addr;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::container::Container;
use crate::dns_server::{Answer, DnsServer, Over, Record};
use crate::network::in_own_network;

/// As Kubernetes writes it for a pod of the namespace `prod`.
const RESOLV_CONF: &str = "nameserver 127.0.0.77\n\
                           search prod.svc.cluster.local svc.cluster.local cluster.local\n\
                           options ndots:5\n";

#[test]
fn dns_search_ndots_and_tcp_fallback() {
    in_own_network("dns::dns_search_ndots_and_tcp_fallback", async |image| {
        let names = [
            "ray.prod.svc.cluster.local",
            "receiver.monitoring.svc.cluster.local",
            "exporter.example.com",
            "api.prod.svc.cluster.local",
        ];
        let large = ["many.prod.svc.cluster.local", "pods.monitoring.svc.cluster.local"];
        let dns = DnsServer::start("127.0.0.77:53".parse().unwrap()).await;
        let here = || vec![Record::A(Ipv4Addr::LOCALHOST)];
        for name in names {
            dns.set(name, Answer::Records(here()));
        }
        for name in large {
            dns.set(name, Answer::OverTcp(here()));
        }
        let farm = Farm::start(1, 20).await.unwrap();
        let sink = Sink::start(Judgement::EachSeries).await.unwrap();
        let (target, receiver) = (farm.addresses()[0].port(), sink.address().port());
        let scheme = "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n";
        let config = format!(
            "{scheme}\
             - job_name: by-name\n  \
               static_configs: [{{targets: ['ray:{target}', 'exporter.example.com:{target}', 'many:{target}']}}]\n\
             - job_name: absolute\n  static_configs: [{{targets: ['api.prod.svc.cluster.local.:{target}']}}]\n\
             - job_name: by-records\n  \
               dns_sd_configs: [{{names: [pods.monitoring], type: A, port: {target}}}]\n\
             remote_write:\n- url: http://receiver.monitoring:{receiver}/api/v1/write\n"
        );
        let mut container = Container::of(&image)
            .file("/etc/prometheus/prometheus.yml", &config)
            .file("/etc/resolv.conf", RESOLV_CONF)
            .volume("/prometheus")
            .start();
        container.until_ready().await;
        let instances = ["ray", "exporter.example.com", "many", "api.prod.svc.cluster.local.", "127.0.0.1"];
        let wanted = instances.map(|name| format!("{name}:{target}"));
        let arrived = || {
            sink.received()
                .instances
                .iter()
                .filter(|(_, one)| !one.scrapes.is_empty())
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        container
            .until(&format!("{wanted:?}"), async || wanted.iter().all(|name| arrived().contains(name)))
            .await;
        assert_eq!(container.terminate().await, 0, "{}", container.log());

        let questions = dns.questions();
        let position = |over: Over, name: &str| {
            let found = questions.iter().position(|(how, asked)| *how == over && asked == name);
            found.unwrap_or_else(|| panic!("{name} over {over:?}: {questions:?}"))
        };
        // The search list, in its order.
        let (first, second) =
            ("receiver.monitoring.prod.svc.cluster.local", "receiver.monitoring.svc.cluster.local");
        assert!(position(Over::Udp, first) < position(Over::Udp, second));
        // With fewer than five dots the search list comes first.
        for domain in ["prod.svc.cluster.local", "svc.cluster.local", "cluster.local"] {
            let searched = format!("exporter.example.com.{domain}");
            assert!(position(Over::Udp, &searched) < position(Over::Udp, "exporter.example.com"));
        }
        // What does not fit is asked for over TCP, by targets' connections and by discovery.
        for name in large {
            assert!(position(Over::Udp, name) < position(Over::Tcp, name));
        }
        let searched = "api.prod.svc.cluster.local.prod.svc.cluster.local";
        assert!(questions.iter().all(|(_, asked)| asked != searched), "an absolute name is searched for");
    });
}
