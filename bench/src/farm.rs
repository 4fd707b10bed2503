//! Targets by the hundred on this machine, with a record of every scrape they answered in full.

use crate::{clock::now_ms, page::Page};
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Longer request heads are refused.
const HEAD_MAX: usize = 16 * 1024;
/// So many requests that are no scrapes are kept.
const STRANGERS_MAX: usize = 100;

/// Targets that listen, each on a port of its own, until this is dropped.
///
/// Every scrape of a target gets the next number, starting with 1, and every value on its page carries that number
/// ([`sequence_of`](crate::page::sequence_of)): a receiver can tell which scrapes it has of which series.
#[derive(Debug)]
pub struct Farm {
    targets: Vec<Arc<Target>>,
    addresses: Vec<SocketAddr>,
    asleep: Arc<AtomicBool>,
    /// Dropping it ends them.
    listeners: JoinSet<()>,
}

/// What a farm has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// One for each target, in the farm's order.
    pub targets: Vec<TargetRecord>,
    /// Series on each page.
    pub series: usize,
    /// The first lines of requests that were no scrapes, and were answered with status 404: somebody mistook a target
    /// for what it is not. No more than the first hundred.
    #[serde(default)]
    pub strangers: Vec<String>,
}

/// What one target has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// `host:port`, the `instance` label of its series.
    pub instance: String,
    /// Scrape number and the moment (milliseconds since the epoch) when the last byte of the answer was handed to the
    /// kernel. A scrape whose connection broke before that is missing here.
    pub answered: Vec<(u64, i64)>,
    /// Connections that were opened to it.
    #[serde(default)]
    pub connections: u64,
}

#[derive(Debug)]
struct Target {
    page: Page,
    asleep: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scrapes: u64,
    under_way: u64,
    answered: Vec<(u64, i64)>,
    connections: u64,
    strangers: Vec<String>,
}

impl Farm {
    /// Starts `targets` targets with `series` series each on ports of 127.0.0.1 that the system chooses.
    pub async fn start(targets: usize, series: usize) -> io::Result<Self> {
        let mut farm = Self {
            targets: Vec::new(),
            addresses: Vec::new(),
            asleep: Arc::default(),
            listeners: JoinSet::new(),
        };
        for index in 0..targets {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let target = Arc::new(Target {
                page: Page::new(index, series),
                asleep: Arc::clone(&farm.asleep),
                state: Mutex::default(),
            });
            farm.addresses.push(listener.local_addr()?);
            farm.targets.push(Arc::clone(&target));
            farm.listeners.spawn(listen(listener, target));
        }
        Ok(farm)
    }

    /// Where the targets listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// While asleep, every target answers with status 503.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }

    /// Scrapes being answered: requests that were read and whose answer is neither handed over nor given up.
    pub fn under_way(&self) -> u64 {
        self.targets.iter().map(|target| target.state().under_way).sum()
    }

    fn strangers(&self) -> Vec<String> {
        let strangers = self.targets.iter().map(|target| target.state().strangers.clone());
        strangers.flatten().take(STRANGERS_MAX).collect()
    }

    /// Every scrape answered so far.
    pub fn record(&self) -> Record {
        let targets = self.targets.iter().zip(&self.addresses).map(|(target, address)| {
            let state = target.state();
            TargetRecord {
                instance: address.to_string(),
                answered: state.answered.clone(),
                connections: state.connections,
            }
        });
        Record {
            targets: targets.collect(),
            series: self.targets.first().map_or(0, |target| target.page.series()),
            strangers: self.strangers(),
        }
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request that is no scrape.
    fn met_stranger(&self, request: &str) {
        let mut state = self.state();
        if state.strangers.len() < STRANGERS_MAX {
            state.strangers.push(request.to_owned());
        }
    }

    /// Notes how the answer to a scrape went.
    fn ended(&self, sequence: u64, written: &io::Result<()>) {
        let mut state = self.state();
        state.under_way -= 1;
        if written.is_ok() {
            state.answered.push((sequence, now_ms()));
        }
    }

    /// The whole answer, head and body, to the next scrape.
    fn answer(&self, sequence: u64, gzip: bool) -> io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(self.page.series() * 160);
        self.page.render(sequence, &mut body);
        if gzip {
            // The fastest level: what an exporter pays is not measured here.
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 6), Compression::fast());
            encoder.write_all(&body)?;
            body = encoder.finish()?;
        }
        let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{encoding}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        Ok(answer)
    }
}

async fn listen(listener: TcpListener, target: Arc<Target>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let target = Arc::clone(&target);
                    target.state().connections += 1;
                    connections.spawn(async move {
                        // A connection that the collector broke ends here; its scrape is not in the record.
                        let _ = serve(stream, &target).await;
                    });
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// HTTP/1.1 as scrapers speak it, by hand, because the record needs the moment when the socket took the last byte.
async fn serve(mut stream: TcpStream, target: &Target) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if input.len() > HEAD_MAX || stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
        input.drain(..end);
        let request = head.lines().next().unwrap_or_default();
        if !["get /metrics ", "get /metrics?"].iter().any(|scrape| request.starts_with(scrape)) {
            target.met_stranger(request);
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .await?;
            return stream.shutdown().await;
        }
        let gzip = head.lines().any(|line| line.starts_with("accept-encoding:") && line.contains("gzip"));
        if target.asleep.load(Ordering::Relaxed) {
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        }
        let sequence = {
            let mut state = target.state();
            state.scrapes += 1;
            state.under_way += 1;
            state.scrapes
        };
        let written = match target.answer(sequence, gzip) {
            Ok(answer) => stream.write_all(&answer).await,
            Err(error) => Err(error),
        };
        target.ended(sequence, &written);
        written?;
        if head.lines().any(|line| line.starts_with("connection:") && line.contains("close")) {
            return stream.shutdown().await;
        }
    }
}
