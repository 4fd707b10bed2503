use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use promferry_discovery::{DiscoveryOptions, DnsServers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::support::{Consumer, options};

/// What a name answers with.
#[derive(Clone)]
enum Answer {
    Records(Vec<RData>),
    Code(ResponseCode),
    Silence,
}

/// A DNS server over UDP and TCP on one port. Names that it does not know do not exist.
struct Server {
    port: u16,
    zone: Arc<Mutex<BTreeMap<String, Answer>>>,
    /// The names that were asked for, with the transport.
    asked: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Server {
    async fn start(resolv_conf: &str) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same number may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let port = udp.local_addr().unwrap().port();
        let zone = Arc::new(Mutex::new(BTreeMap::new()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (names, log) = (zone.clone(), asked.clone());
        let over_udp = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = answer(&buffer[..length], "udp", &names, &log) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let (names, log) = (zone.clone(), asked.clone());
        let over_tcp = tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let (names, log) = (names.clone(), log.clone());
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.unwrap();
                        if let Some(answer) = answer(&query, "tcp", &names, &log) {
                            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                            stream.write_all(&answer).await.unwrap();
                        }
                    }
                });
            }
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("resolv.conf"), resolv_conf).unwrap();
        Self { port, zone, asked, tasks: vec![over_udp, over_tcp], dir }
    }

    fn knows(&self, name: &str, answer: Answer) {
        self.zone.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn options(&self) -> DiscoveryOptions {
        let dns = DnsServers { resolv_conf: self.dir.path().join("resolv.conf"), port: self.port };
        DiscoveryOptions { dns, ..options() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn answer(
    query: &[u8],
    transport: &str,
    zone: &Mutex<BTreeMap<String, Answer>>,
    asked: &Mutex<Vec<String>>,
) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let name = question.name().to_ascii();
    asked.lock().unwrap().push(format!("{transport} {name}"));
    let known = zone.lock().unwrap().get(&name).cloned();
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    match known {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        Some(Answer::Silence) => return None,
        Some(Answer::Code(code)) => response.metadata.response_code = code,
        Some(Answer::Records(records)) => {
            for data in records {
                let is_asked_for = data.record_type() == question.query_type();
                if is_asked_for || data.record_type() == RecordType::CNAME {
                    response.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
            }
            // What does not fit into one datagram is asked for again over TCP.
            if transport == "udp" && response.to_vec().unwrap().len() > 1200 {
                response.answers.clear();
                response.metadata.truncation = true;
            }
        }
    }
    Some(response.to_vec().unwrap())
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(10, 0, 0, last)))
}

const LOCALHOST: &str = "nameserver 127.0.0.1\n";

#[tokio::test]
async fn each_kind_of_record_has_the_labels_of_prometheus() {
    let server = Server::start(LOCALHOST).await;
    let records = vec![
        a(1),
        RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)),
        RData::SRV(SRV::new(0, 0, 9100, name("Host.example.com."))),
        RData::MX(MX::new(5, name("mail.example.com."))),
        RData::NS(NS(name("ns.example.com."))),
        RData::TXT(TXT::new(vec!["no target".to_owned()])),
    ];
    server.knows("_x._tcp.example.com.", Answer::Records(records));
    for (kind, expected) in [
        ("a", "__address__=10.0.0.1:80,__meta_dns_name=_x._tcp.example.com"),
        ("AAAA", "__address__=[::1]:80,__meta_dns_name=_x._tcp.example.com"),
        (
            "SRV",
            "__address__=Host.example.com:9100,__meta_dns_name=_x._tcp.example.com,__meta_dns_srv_record_port=9100,\
             __meta_dns_srv_record_target=Host.example.com.",
        ),
        (
            "MX",
            "__address__=mail.example.com:80,__meta_dns_mx_record_target=mail.example.com.,\
             __meta_dns_name=_x._tcp.example.com",
        ),
        (
            "NS",
            "__address__=ns.example.com:80,__meta_dns_name=_x._tcp.example.com,\
             __meta_dns_ns_record_target=ns.example.com.",
        ),
    ] {
        let yaml = format!("dns_sd_configs: [{{names: [_x._tcp.example.com], type: {kind}, port: 80}}]");
        let mut consumer = Consumer::run(&yaml, server.options());
        consumer.until(&[expected]).await;
        assert_eq!(consumer.sources(), ["_x._tcp.example.com"]);
    }
}

#[tokio::test]
async fn names_are_completed_in_the_order_of_prometheus() {
    for (ndots, name, expected) in [
        ("ndots:1", "web", &["web.one.test.", "web.two.test.", "web."][..]),
        ("ndots:1", "web.ns", &["web.ns.", "web.ns.one.test.", "web.ns.two.test."]),
        ("ndots:5", "web.ns.svc", &["web.ns.svc.one.test.", "web.ns.svc.two.test.", "web.ns.svc."]),
        ("ndots:5", "web.ns.svc.", &["web.ns.svc."]),
    ] {
        let server = Server::start(&format!("search one.test two.test\n{LOCALHOST}options {ndots}\n")).await;
        let yaml =
            format!("dns_sd_configs: [{{names: [{name}], type: A, port: 80, refresh_interval: 50ms}}]");
        let mut consumer = Consumer::run(&yaml, server.options());
        // All servers agree that it does not exist: that is an answer.
        while consumer.discovery.status()[0].last_success.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let asked: Vec<_> = server.asked().into_iter().take(expected.len()).collect();
        assert_eq!(
            asked,
            expected.iter().map(|name| format!("udp {name}")).collect::<Vec<_>>(),
            "{ndots} {name}"
        );
        // Whichever comes to exist is used, and is called by the configured name.
        server.knows(expected[expected.len() - 1], Answer::Records(vec![a(1)]));
        consumer.until(&[&format!("__address__=10.0.0.1:80,__meta_dns_name={name}")]).await;
        assert!(consumer.discovery.status()[0].failures_total == 0);
    }
}

#[tokio::test]
async fn long_answers_come_over_tcp_and_names_behind_aliases_are_followed() {
    let server = Server::start(LOCALHOST).await;
    server.knows("many.test.", Answer::Records((0..200).map(a).collect()));
    let alias = RData::CNAME(CNAME(name("many.test.")));
    server.knows("alias.test.", Answer::Records(vec![alias]));
    for asked in ["many.test", "alias.test"] {
        let yaml = format!("dns_sd_configs: [{{names: [{asked}], type: A, port: 80}}]");
        let mut consumer = Consumer::run(&yaml, server.options());
        consumer.batch().await;
        assert_eq!(consumer.targets().len(), 200);
        assert!(consumer.targets()[0].ends_with(asked));
    }
    assert!(server.asked().contains(&"tcp many.test.".to_owned()));
}

#[tokio::test]
async fn a_failing_name_keeps_its_targets_and_a_vanished_one_loses_them() {
    let server = Server::start(&format!("{LOCALHOST}options timeout:1 attempts:1\n")).await;
    server.knows("one.test.", Answer::Records(vec![a(1)]));
    server.knows("two.test.", Answer::Records(vec![a(2)]));
    let yaml = "dns_sd_configs: [{names: [one.test, two.test], type: A, port: 80, refresh_interval: 50ms}]";
    let mut consumer = Consumer::run(yaml, server.options());
    let one = "__address__=10.0.0.1:80,__meta_dns_name=one.test";
    let two = "__address__=10.0.0.2:80,__meta_dns_name=two.test";
    consumer.until(&[one, two]).await;
    for (failing, reason) in [
        (Answer::Code(ResponseCode::ServFail), "one.test: no server gave an answer for one.test.:"),
        (Answer::Code(ResponseCode::Refused), "one.test: no server gave an answer for one.test.:"),
        (Answer::Silence, "none answered in time"),
    ] {
        server.knows("one.test.", failing);
        consumer.failure(reason).await;
        assert_eq!(consumer.targets(), [one, two]);
        // The other name goes on meanwhile.
        server.knows("two.test.", Answer::Records(vec![a(3)]));
        consumer.until(&[one, "__address__=10.0.0.3:80,__meta_dns_name=two.test"]).await;
        server.knows("two.test.", Answer::Records(vec![a(2)]));
        server.knows("one.test.", Answer::Records(vec![a(1)]));
        consumer.until(&[one, two]).await;
        consumer.recovery().await;
    }
    server.zone.lock().unwrap().remove("one.test.");
    consumer.until(&[two]).await;
    // It exists, but has no such records.
    server.knows("two.test.", Answer::Records(Vec::new()));
    consumer.until(&[]).await;
    assert!(!consumer.discovery.status()[0].is_failing);
}

#[tokio::test]
async fn resolv_conf_is_read_again() {
    let server = Server::start("nameserver 127.0.0.1\n").await;
    let file = server.dir.path().join("resolv.conf");
    std::fs::remove_file(&file).unwrap();
    server.knows("web.new.test.", Answer::Records(vec![a(1)]));
    let yaml = "dns_sd_configs: [{names: [web], type: A, port: 80, refresh_interval: 50ms}]";
    let mut consumer = Consumer::run(yaml, server.options());
    consumer.failure("resolv.conf: No such file").await;
    std::fs::write(&file, "search old.test\nnameserver 127.0.0.1\n").unwrap();
    consumer.recovery().await;
    assert!(consumer.targets().is_empty());
    std::fs::write(&file, "search new.test\nnameserver 127.0.0.1\n").unwrap();
    consumer.until(&["__address__=10.0.0.1:80,__meta_dns_name=web"]).await;
}
