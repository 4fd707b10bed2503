//! A cluster's name server, as small as may be: it knows some names, all of which are 127.0.0.1, and of some of them it
//! says over UDP only that the answer does not fit.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Who is asked, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

pub(crate) struct DnsServer {
    questions: Arc<Mutex<Vec<(Over, String)>>>,
    _listeners: JoinSet<()>,
}

struct Zone {
    names: Vec<&'static str>,
    /// Those that are told over TCP only.
    large: Vec<&'static str>,
    questions: Arc<Mutex<Vec<(Over, String)>>>,
}

/// The type of an address record.
const A: u16 = 1;
/// Response, authoritative, recursion desired and available.
const ANSWER: [u8; 2] = [0x85, 0x80];
const TRUNCATED: u8 = 0x02;
const NO_SUCH_NAME: u8 = 0x03;

impl DnsServer {
    pub(crate) async fn start(address: SocketAddr, names: &[&'static str], large: &[&'static str]) -> Self {
        let questions = Arc::<Mutex<Vec<_>>>::default();
        let zone = Arc::new(Zone {
            names: names.to_vec(),
            large: large.to_vec(),
            questions: Arc::clone(&questions),
        });
        let (udp, tcp) = (UdpSocket::bind(address).await.unwrap(), TcpListener::bind(address).await.unwrap());
        let mut listeners = JoinSet::new();
        let of_udp = Arc::clone(&zone);
        listeners.spawn(async move {
            let mut datagram = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut datagram).await {
                let _ = udp.send_to(&of_udp.answer(&datagram[..length], Over::Udp), from).await;
            }
        });
        listeners.spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let zone = Arc::clone(&zone);
                tokio::spawn(async move { zone.serve(stream).await });
            }
        });
        Self { questions, _listeners: listeners }
    }

    /// The names that were asked for, in order.
    pub(crate) fn questions(&self) -> Vec<(Over, String)> {
        self.questions.lock().unwrap().clone()
    }
}

impl Zone {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut message = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut message).await?;
            let answer = self.answer(&message, Over::Tcp);
            stream.write_u16(answer.len() as u16).await?;
            stream.write_all(&answer).await?;
        }
    }

    /// RFC 1035: a header of 12 bytes, then the question.
    fn answer(&self, message: &[u8], over: Over) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while message[at] != 0 {
            let length = usize::from(message[at]);
            labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes([message[at + 1], message[at + 2]]);
        let question = &message[12..at + 5];
        let name = labels.join(".");
        self.questions.lock().unwrap().push((over, name.clone()));
        let is_large = self.large.contains(&&*name);
        let is_known = is_large || self.names.contains(&&*name);
        let is_truncated = is_large && over == Over::Udp;
        let addresses = u8::from(is_known && kind == A && !is_truncated);
        let mut answer = message[..2].to_vec();
        answer.extend([
            ANSWER[0] | if is_truncated { TRUNCATED } else { 0 },
            ANSWER[1] | if is_known { 0 } else { NO_SUCH_NAME },
        ]);
        answer.extend([0, 1, 0, addresses, 0, 0, 0, 0]);
        answer.extend(question);
        if addresses == 1 {
            // The name is the one at byte 12; class IN, a second to live, four bytes.
            answer.extend([0xc0, 12, 0, A as u8, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(Ipv4Addr::LOCALHOST.octets());
        }
        answer
    }
}
