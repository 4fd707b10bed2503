//! A name server whose records are changed while it runs (RFC 1035; SRV is RFC 2782's).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

#[derive(Clone, Debug)]
pub(crate) enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ns(&'static str),
    Mx(u16, &'static str),
    Srv(u16, &'static str),
    /// The name that has the records, which are part of the answer.
    Alias(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Possibly none.
    Records(Vec<Record>),
    /// The same, of which UDP says only that they do not fit.
    OverTcp(Vec<Record>),
    /// SERVFAIL.
    Failure,
}

pub(crate) struct DnsServer {
    zone: Arc<Zone>,
    _listeners: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    /// Any other name does not exist.
    answers: Mutex<BTreeMap<&'static str, Answer>>,
    questions: Mutex<BTreeMap<String, usize>>,
}

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

impl DnsServer {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let zone = Arc::<Zone>::default();
        let (udp, tcp) = (UdpSocket::bind(address).await.unwrap(), TcpListener::bind(address).await.unwrap());
        let mut listeners = JoinSet::new();
        let of_udp = Arc::clone(&zone);
        listeners.spawn(async move {
            let mut datagram = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut datagram).await {
                let _ = udp.send_to(&of_udp.answer(&datagram[..length], false), from).await;
            }
        });
        let of_tcp = Arc::clone(&zone);
        listeners.spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let zone = Arc::clone(&of_tcp);
                tokio::spawn(async move { zone.serve(stream).await });
            }
        });
        Self { zone, _listeners: listeners }
    }

    /// What is known of a name (lower-case, without its final dot) from now on; `None`: it does not exist.
    pub(crate) fn set(&self, name: &'static str, answer: impl Into<Option<Answer>>) {
        let mut answers = self.zone.answers.lock().unwrap();
        match answer.into() {
            Some(answer) => answers.insert(name, answer),
            None => answers.remove(name),
        };
    }

    /// How often a name was asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.zone.questions.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Zone {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut message = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut message).await?;
            let answer = self.answer(&message, true);
            stream.write_u16(answer.len() as u16).await?;
            stream.write_all(&answer).await?;
        }
    }

    fn answer(&self, message: &[u8], over_tcp: bool) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while message[at] != 0 {
            let length = usize::from(message[at]);
            labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes([message[at + 1], message[at + 2]]);
        let name = labels.join(".");
        *self.questions.lock().unwrap().entry(name.clone()).or_default() += 1;
        let answers = self.answers.lock().unwrap();
        let (code, truncated, records) = match answers.get(&*name) {
            None => (NO_SUCH_NAME, false, Vec::new()),
            Some(Answer::Failure) => (SERVER_FAILURE, false, Vec::new()),
            Some(Answer::OverTcp(_)) if !over_tcp => (NO_ERROR, true, Vec::new()),
            Some(Answer::Records(records) | Answer::OverTcp(records)) => {
                (NO_ERROR, false, of_kind(&answers, &name, records, kind))
            }
        };
        let mut answer = message[..2].to_vec();
        // Response, authoritative, recursion desired and available.
        answer.extend([0x85 | if truncated { 2 } else { 0 }, 0x80 | code]);
        answer.extend([0, 1]);
        answer.extend((records.len() as u16).to_be_bytes());
        answer.extend([0, 0, 0, 0]);
        answer.extend(&message[12..at + 5]);
        for (owner, record) in records {
            let (kind, data) = written(&record);
            answer.extend(name_on_wire(&owner));
            // Class IN, a second to live.
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 1]);
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}

/// Records of this type, by way of aliases, each with the name whose it is.
fn of_kind(
    answers: &BTreeMap<&'static str, Answer>,
    owner: &str,
    records: &[Record],
    kind: u16,
) -> Vec<(String, Record)> {
    let mut found = Vec::new();
    for record in records {
        if let Record::Alias(to) = record {
            found.push((owner.to_owned(), record.clone()));
            if let Some(Answer::Records(records)) = answers.get(to) {
                found.extend(of_kind(answers, to, records, kind));
            }
        } else if written(record).0 == kind {
            found.push((owner.to_owned(), record.clone()));
        }
    }
    found
}

/// A record's type and data.
fn written(record: &Record) -> (u16, Vec<u8>) {
    match record {
        Record::A(address) => (1, address.octets().to_vec()),
        Record::Ns(host) => (2, name_on_wire(host)),
        Record::Alias(to) => (5, name_on_wire(to)),
        Record::Mx(preference, host) => (15, [&preference.to_be_bytes()[..], &name_on_wire(host)].concat()),
        Record::Aaaa(address) => (28, address.octets().to_vec()),
        // Priority, weight, port.
        Record::Srv(port, host) => {
            (33, [&[0, 1, 0, 1][..], &port.to_be_bytes(), &name_on_wire(host)].concat())
        }
    }
}

fn name_on_wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}
