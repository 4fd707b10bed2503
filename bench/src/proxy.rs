//! A TCP proxy that does to connections what networks do.

use crate::port::HeldPort;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What a [`Proxy`] does to the connections made from now on; those that are open are broken off when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// Passes everything on.
    #[default]
    Fair,
    /// Nothing listens, and the port stays this proxy's: connections are refused.
    Down,
    /// Each piece waits this long in each direction.
    Latency(Duration),
    /// Passes on so many bytes of what the client sends, then resets the connection.
    ResetAfter(u64),
    /// Accepts and never says anything, nor reads.
    HalfOpen,
    /// Passes on what the client sends at this many bytes a second.
    Slow(u64),
    /// Passes on what the client sends whole, and so many bytes of the answer, then closes the connection.
    CutAnswerAfter(u64),
    /// Answers everything with bytes that are neither HTTP nor TLS, and closes the connection.
    Garbage,
}

/// A port of 127.0.0.1 that leads to another, until this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    connections: Arc<AtomicU64>,
    _listener: JoinSet<()>,
}

/// Read at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// A slow connection passes on this often.
const SLOW_STEP: Duration = Duration::from_millis(20);

impl Proxy {
    /// Leads to `upstream`, whether or not anything listens there yet.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let port = HeldPort::any()?;
        let address = port.address();
        let listener = port.listen()?;
        let weather = watch::Sender::new(Weather::Fair);
        let connections = Arc::new(AtomicU64::new(0));
        let mut task = JoinSet::new();
        task.spawn(listen(port, listener, upstream, weather.subscribe(), Arc::clone(&connections)));
        Ok(Self { address, weather, connections, _listener: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Changes the weather and breaks off open connections.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn listen(
    port: HeldPort,
    listener: TcpListener,
    upstream: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    accepted: Arc<AtomicU64>,
) {
    let mut listener = Some(listener);
    loop {
        let now = *weather.borrow_and_update();
        let mut connections = JoinSet::new();
        if now == Weather::Down {
            listener = None;
            if weather.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => match port.listen() {
                Ok(bound) => bound,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        loop {
            tokio::select! {
                connection = open.accept() => if let Ok((client, _)) = connection {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(async move {
                        // A connection that breaks is what this is for.
                        let _ = pass(client, upstream, now).await;
                    });
                },
                Some(_) = connections.join_next() => {}
                changed = weather.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
        listener = Some(open);
    }
}

async fn pass(mut client: TcpStream, upstream: SocketAddr, weather: Weather) -> io::Result<()> {
    client.set_nodelay(true)?;
    match weather {
        Weather::HalfOpen => return std::future::pending().await,
        Weather::Garbage => {
            client.write_all(b"\x00\x01\x02 this is neither HTTP nor TLS\r\n\r\n").await?;
            return client.shutdown().await;
        }
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    // Borrowed halves: owned ones would close their direction in good order before the reset.
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // Whichever direction ends first ends the connection.
        tokio::select! {
            ended = copy(from_client, to_server, weather, Direction::Request) => ended?,
            ended = copy(from_server, to_client, weather, Direction::Answer) => ended?,
        }
    };
    match ended {
        Ended::Closed => Ok(()),
        // Closing with a linger time of zero sends a reset.
        Ended::Reset => client.set_zero_linger(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

enum Ended {
    Closed,
    Reset,
}

/// Passes one direction on until it ends.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    weather: Weather,
    direction: Direction,
) -> io::Result<Ended> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut passed = 0;
    loop {
        let room = match (weather, direction) {
            (Weather::ResetAfter(bytes), Direction::Request) if passed >= bytes => {
                return Ok(Ended::Reset);
            }
            (Weather::CutAnswerAfter(bytes), Direction::Answer) if passed >= bytes => {
                return Ok(Ended::Closed);
            }
            (Weather::ResetAfter(bytes), Direction::Request)
            | (Weather::CutAnswerAfter(bytes), Direction::Answer) => (bytes - passed) as usize,
            (Weather::Slow(bytes), Direction::Request) => {
                tokio::time::sleep(SLOW_STEP).await;
                (bytes * SLOW_STEP.as_millis() as u64 / 1000).max(1) as usize
            }
            _ => PIECE_BYTES,
        };
        let read = from.read(&mut piece[..room.min(PIECE_BYTES)]).await?;
        if read == 0 {
            return Ok(Ended::Closed);
        }
        if let Weather::Latency(latency) = weather {
            tokio::time::sleep(latency).await;
        }
        to.write_all(&piece[..read]).await?;
        passed += read as u64;
    }
}
