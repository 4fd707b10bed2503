//! Whether an endpoint can be reached, and what is missing on the way where it can't.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::sdk::shown;

/// How long one address is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name is looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses that are tried, of a name that has more.
const ADDRESSES: usize = 4;

/// What is between us and an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// Something accepts connections there.
    Answers {
        /// Whether its addresses are private ones, as those of an interface endpoint are.
        private: bool,
    },
    /// The name has no address here.
    NoSuchName,
    /// The address refuses connections.
    Refused,
    /// Packets get no answer.
    TimedOut {
        /// Whether the addresses are private ones: then there is an interface endpoint, and it is closed to us.
        private: bool,
    },
    /// This machine knows no way to the address, or was told that there is none.
    NoRoute,
    /// There is a connection, and no TLS over it; what the handshake failed with.
    Tls(String),
    /// The proxy that the environment or the configuration names does not let us through.
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it did.
        reason: String,
    },
}

impl Reach {
    /// A word for it that stays the same, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answers { .. } => "answers",
            Self::NoSuchName => "no_such_name",
            Self::Refused => "refused",
            Self::TimedOut { private: true } => "timed_out_private",
            Self::TimedOut { private: false } => "timed_out_public",
            Self::NoRoute => "no_route",
            Self::Tls(_) => "tls",
            Self::Proxy { .. } => "proxy",
        }
    }

    /// What it means for a pod that wants to talk to `endpoint`, and what to do; one or two sentences.
    pub fn explain(&self, endpoint: &Uri) -> String {
        let host = endpoint.host().unwrap_or_default();
        let port = port_of(endpoint);
        let service = endpoint_service(host);
        let interface_endpoint = match &service {
            Some(service) => format!("an interface endpoint {service} in its VPC"),
            None => String::from("a way of its own to it"),
        };
        match self {
            Self::Answers { .. } => format!(
                "{host} accepts connections, but gave no answer in time: is there a firewall or proxy that takes \
                 connections and drops what comes over them?"
            ),
            Self::NoSuchName => format!(
                "the name {host} has no address here: is the region in it right, and does the pod's DNS work \
                 (CoreDNS there, port 53 open to it, enableDnsSupport on in the VPC)? An interface endpoint has the \
                 name only while its private DNS is on"
            ),
            Self::Refused => {
                format!("{host} refuses connections at port {port}: nothing listens there; is the URL right?")
            }
            Self::TimedOut { private: true } => format!(
                "{host} has a private address, so there is an interface endpoint, and it does not answer: its \
                 security group must let port {port} in from this pod's security group or subnet, and the pod's \
                 security group must let it out"
            ),
            Self::TimedOut { private: false } => format!(
                "there is no route to {host}: its address is a public one and does not answer. A pod in a private \
                 subnet (on Fargate it always is in one) needs a NAT gateway, or {interface_endpoint}; and its \
                 security group must let port {port} out"
            ),
            Self::NoRoute => format!(
                "there is no route to {host}: this machine's route table has none for its address, or a network \
                 policy or firewall turns the packets away. A pod in a private subnet needs a NAT gateway, or \
                 {interface_endpoint}"
            ),
            Self::Tls(reason) => format!(
                "{host} can be reached, and TLS with it fails ({reason}): does something on the way put its own \
                 certificate in place of AWS'? Then name its authority: AWS_CA_BUNDLE for STS, tls_config.ca_file \
                 for the endpoint"
            ),
            Self::Proxy { proxy, reason } => format!(
                "the proxy {proxy} does not let us through to {host}: {reason}. Allow {host} there, or name it in \
                 NO_PROXY where the pod has a way of its own"
            ),
        }
    }
}

/// What looks names up and connects.
trait Network {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// That of this machine.
struct OwnNetwork;

impl Network for OwnNetwork {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Looks a URL's host up and connects to it, or to the proxy that `HTTPS_PROXY` and `NO_PROXY` of this process name
/// for it, as calls to STS do. Nothing is sent, except `CONNECT` to a proxy. Takes at most some 20 seconds.
pub async fn reach(url: &Uri) -> Reach {
    let proxy = Matcher::from_env().intercept(url);
    let proxy = proxy.map(|found| Hop {
        host: found.uri().host().unwrap_or_default().to_owned(),
        port: port_of(found.uri()),
        speaks_tls: found.uri().scheme_str() == Some("https"),
        authorization: found.basic_auth().cloned(),
    });
    reach_by(&OwnNetwork, url, proxy.as_ref()).await
}

/// The same past any proxy.
pub async fn reach_directly(url: &Uri) -> Reach {
    reach_by(&OwnNetwork, url, None).await
}

/// A proxy on the way.
struct Hop {
    host: String,
    port: u16,
    speaks_tls: bool,
    authorization: Option<HeaderValue>,
}

async fn reach_by(network: &impl Network, url: &Uri, proxy: Option<&Hop>) -> Reach {
    let (host, port) = (url.host().unwrap_or_default(), port_of(url));
    let Some(proxy) = proxy else {
        return match connect(network, host, port).await {
            Ok((_, private)) => Reach::Answers { private },
            Err(reach) => reach,
        };
    };
    let refused = |reason: &str| Reach::Proxy {
        proxy: format!("{}:{}", proxy.host, proxy.port),
        reason: shown(reason),
    };
    let stream = match connect(network, &proxy.host, proxy.port).await {
        Ok((stream, _)) => stream,
        Err(Reach::NoSuchName) => return refused("its name has no address here"),
        Err(Reach::Refused) => return refused("it refuses connections"),
        Err(Reach::NoRoute) => return refused("there is no route to it"),
        Err(_) => return refused("it does not answer"),
    };
    // What is not tunnelled, or not without a handshake, is not tried.
    if url.scheme_str() != Some("https") || proxy.speaks_tls {
        return Reach::Answers { private: false };
    }
    match timeout(CONNECT_TIMEOUT * 2, tunnel(stream, host, port, proxy.authorization.as_ref())).await {
        Ok(Ok(status)) if status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) => {
            Reach::Answers { private: false }
        }
        Ok(Ok(status)) if status.is_empty() => refused("it closes the connection at CONNECT"),
        Ok(Ok(status)) => refused(&format!("it answers CONNECT with {status:?}")),
        Ok(Err(_)) => refused("it closes the connection at CONNECT"),
        Err(_) => refused("it does not answer CONNECT"),
    }
}

/// The status line that a proxy answers `CONNECT` with.
async fn tunnel(
    stream: TcpStream,
    host: &str,
    port: u16,
    authorization: Option<&HeaderValue>,
) -> io::Result<String> {
    const LONGEST: u64 = 512;
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = authorization.and_then(|value| value.to_str().ok()) {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = BufReader::new(stream);
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    tokio::io::AsyncReadExt::take(&mut stream, LONGEST).read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

/// A connection, and whether the host's addresses are private ones.
async fn connect(network: &impl Network, host: &str, port: u16) -> Result<(TcpStream, bool), Reach> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(Ok(mut addresses)) = timeout(LOOKUP_TIMEOUT, network.look_up(host, port)).await else {
        return Err(Reach::NoSuchName);
    };
    addresses.truncate(ADDRESSES);
    let private = are_private(addresses.iter().map(SocketAddr::ip));
    let mut found = Reach::NoSuchName;
    for address in addresses {
        let failed = match timeout(CONNECT_TIMEOUT, network.connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, private)),
            Ok(Err(error)) => failure(&error, private),
            Err(_) => Reach::TimedOut { private },
        };
        // A pod without IPv6 has no route to a name's IPv6 addresses; what its IPv4 addresses say counts.
        if found == Reach::NoSuchName || failed != Reach::NoRoute {
            found = failed;
        }
    }
    Err(found)
}

fn failure(error: &io::Error, private: bool) -> Reach {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Reach::Refused,
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::AddrNotAvailable => Reach::NoRoute,
        _ => Reach::TimedOut { private },
    }
}

/// Whether a host's addresses are private ones. An interface endpoint for both has private IPv4 addresses, and IPv6
/// addresses of its VPC, which look like any other's: the former tell.
fn are_private(addresses: impl Iterator<Item = IpAddr> + Clone) -> bool {
    let mut v4 = addresses.clone().filter(|address| address.to_canonical().is_ipv4()).peekable();
    match v4.peek() {
        Some(_) => v4.all(is_private),
        None => addresses.into_iter().all(is_private),
    }
}

/// Addresses that interface endpoints have, and machines of one's own.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// What to look at first where an endpoint's URL is not reached and nothing more is known.
pub(crate) fn route_advice(endpoint: &str) -> String {
    let host = endpoint.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned));
    let service = host.and_then(|host| endpoint_service(&host));
    let service = service.map(|service| format!(" {service}")).unwrap_or_default();
    format!("a private subnet needs a route to it or an interface endpoint{service}")
}

/// The service name of the interface endpoint that has this host's name.
fn endpoint_service(host: &str) -> Option<String> {
    let of_china = [".amazonaws.com.cn", ".api.amazonwebservices.com.cn"];
    let (name, china) = match of_china.iter().find_map(|suffix| host.strip_suffix(suffix)) {
        Some(name) => (name, true),
        None => (host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".api.aws"))?, false),
    };
    let (service, region) = name.split_once('.')?;
    let service = service.strip_suffix("-fips").unwrap_or(service);
    let known = ["sts", "aps-workspaces"].contains(&service) && !region.contains('.');
    known.then(|| format!("{}com.amazonaws.{region}.{service}", if china { "cn." } else { "" }))
}

fn port_of(url: &Uri) -> u16 {
    match url.port_u16() {
        Some(port) => port,
        None if url.scheme_str() == Some("http") => 80,
        None => 443,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const STS: &str = "https://sts.eu-west-1.amazonaws.com";

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn each_obstacle_has_its_sentence() {
        let proxy = Reach::Proxy {
            proxy: String::from("proxy:3128"),
            reason: String::from("it refuses connections"),
        };
        let cases: [(Reach, &[&str]); 8] = [
            (
                Reach::NoSuchName,
                &["sts.eu-west-1.amazonaws.com has no address", "enableDnsSupport", "private DNS"],
            ),
            (Reach::TimedOut { private: true }, &["private address", "security group must let port 443 in"]),
            (
                Reach::TimedOut { private: false },
                &["no route", "NAT gateway", "interface endpoint com.amazonaws.eu-west-1.sts"],
            ),
            (Reach::NoRoute, &["no route", "firewall", "com.amazonaws.eu-west-1.sts"]),
            (Reach::Refused, &["refuses connections at port 443"]),
            (
                Reach::Tls(String::from("UnknownIssuer")),
                &["UnknownIssuer", "AWS_CA_BUNDLE", "tls_config.ca_file"],
            ),
            (proxy, &["proxy:3128", "refuses connections", "NO_PROXY"]),
            (Reach::Answers { private: false }, &["gave no answer in time"]),
        ];
        let mut names = Vec::new();
        for (reach, needles) in cases {
            let text = reach.explain(&uri(STS));
            for needle in needles {
                assert!(text.contains(needle), "{needle:?} in {text}");
            }
            names.push(reach.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 8, "each has its own word");
    }

    #[test]
    fn interface_endpoints_are_named_as_aws_names_them() {
        let cases = [
            ("sts.eu-west-1.amazonaws.com", Some("com.amazonaws.eu-west-1.sts")),
            ("sts-fips.us-east-1.amazonaws.com", Some("com.amazonaws.us-east-1.sts")),
            ("aps-workspaces.eu-west-1.amazonaws.com", Some("com.amazonaws.eu-west-1.aps-workspaces")),
            ("aps-workspaces.eu-west-1.api.aws", Some("com.amazonaws.eu-west-1.aps-workspaces")),
            ("sts.cn-north-1.amazonaws.com.cn", Some("cn.com.amazonaws.cn-north-1.sts")),
            ("sts.cn-north-1.api.amazonwebservices.com.cn", Some("cn.com.amazonaws.cn-north-1.sts")),
            ("vpce-1.sts.eu-west-1.vpce.amazonaws.com", None),
            ("amp.example.com", None),
            ("127.0.0.1", None),
        ];
        for (host, service) in cases {
            assert_eq!(endpoint_service(host).as_deref(), service, "{host}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for (address, private) in [
            ("10.0.3.7", true),
            ("172.16.0.1", true),
            ("192.168.0.1", true),
            ("100.64.1.1", true),
            ("127.0.0.1", true),
            ("fd00:ec2::23", true),
            ("::ffff:10.0.0.1", true),
            ("100.128.0.1", false),
            ("54.239.0.1", false),
            ("2600:1f18::1", false),
        ] {
            assert_eq!(is_private(address.parse().expect(address)), private, "{address}");
        }
        for (addresses, private) in [
            (&["10.0.3.7", "2600:1f18::1"][..], true),
            (&["54.239.0.1", "2600:1f18::1"], false),
            (&["10.0.3.7", "54.239.0.1"], false),
            (&["fd00::1", "2600:1f18::1"], false),
            (&["fd00::1"], true),
        ] {
            let parsed = addresses.iter().map(|address| address.parse().expect(address));
            assert_eq!(are_private(parsed), private, "{addresses:?}");
        }
    }

    /// A network in which a name has these addresses, and connections to them come to this.
    struct Played {
        addresses: Option<&'static [&'static str]>,
        connecting: Connecting,
    }

    #[derive(Clone, Copy, Debug)]
    enum Connecting {
        /// Packets are dropped: by a security group, or where there is no NAT gateway.
        Silent,
        /// Only those to IPv4 addresses are; there is no route to others.
        SilentOverV4,
        Fails(io::ErrorKind),
    }

    impl Network for Played {
        async fn look_up(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            let address = |ip: &&str| SocketAddr::new(ip.parse().expect(ip), port);
            self.addresses
                .map(|ips| ips.iter().map(address).collect())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
            match self.connecting {
                Connecting::SilentOverV4 if address.is_ipv6() => {
                    Err(io::ErrorKind::NetworkUnreachable.into())
                }
                Connecting::Silent | Connecting::SilentOverV4 => std::future::pending().await,
                Connecting::Fails(kind) => Err(kind.into()),
            }
        }
    }

    /// What is to be done follows from the addresses that a name has, and from what becomes of a connection to them.
    #[tokio::test(start_paused = true)]
    async fn advice_follows_from_what_the_network_does() {
        use Connecting::{Fails, Silent, SilentOverV4};
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        };
        const PUBLIC: Option<&[&str]> = Some(&["52.94.5.1", "52.94.5.2"]);
        const PRIVATE: Option<&[&str]> = Some(&["10.0.1.17", "10.0.2.17"]);
        const PUBLIC_DUAL: Option<&[&str]> = Some(&["2a05:d018::1", "52.94.5.1"]);
        const PRIVATE_DUAL: Option<&[&str]> = Some(&["10.0.1.17", "2a05:d018::1"]);
        let (public, private) = (Reach::TimedOut { private: false }, Reach::TimedOut { private: true });
        let nat = "needs a NAT gateway, or an interface endpoint com.amazonaws.eu-west-1.sts in its VPC";
        let group =
            "there is an interface endpoint, and it does not answer: its security group must let port 443 in";
        let nothing_listens = "refuses connections at port 443";
        let no_address = "has no address here";
        let table = [
            (PUBLIC, Silent, public.clone(), nat, "it does not answer"),
            (PUBLIC, Fails(TimedOut), public.clone(), nat, "it does not answer"),
            (PRIVATE, Silent, private.clone(), group, "it does not answer"),
            (PRIVATE, Fails(TimedOut), private.clone(), group, "it does not answer"),
            (PUBLIC_DUAL, SilentOverV4, public, nat, "it does not answer"),
            (PRIVATE_DUAL, SilentOverV4, private, group, "it does not answer"),
            (PUBLIC, Fails(ConnectionRefused), Reach::Refused, nothing_listens, "it refuses connections"),
            (PRIVATE, Fails(ConnectionRefused), Reach::Refused, nothing_listens, "it refuses connections"),
            (PUBLIC, Fails(ConnectionReset), Reach::Refused, nothing_listens, "it refuses connections"),
            (PUBLIC, Fails(NetworkUnreachable), Reach::NoRoute, nat, "there is no route to it"),
            (PRIVATE, Fails(NetworkUnreachable), Reach::NoRoute, nat, "there is no route to it"),
            (PUBLIC, Fails(HostUnreachable), Reach::NoRoute, nat, "there is no route to it"),
            (None, Silent, Reach::NoSuchName, no_address, "its name has no address here"),
            (Some(&[]), Silent, Reach::NoSuchName, no_address, "its name has no address here"),
        ];
        let proxy = Hop {
            host: String::from("proxy.example.com"),
            port: 3128,
            speaks_tls: false,
            authorization: None,
        };
        for (addresses, connecting, expected, advice, of_a_proxy) in table {
            let network = Played { addresses, connecting };
            let found = reach_by(&network, &uri(STS), None).await;
            assert_eq!(found, expected, "{addresses:?} {connecting:?}");
            let text = found.explain(&uri(STS));
            assert!(text.contains(advice), "{addresses:?} {connecting:?}: {text}");
            // The same network where these are the addresses of a proxy: that is what is not reached.
            let found = reach_by(&network, &uri(STS), Some(&proxy)).await;
            let reason = of_a_proxy.to_owned();
            assert_eq!(found, Reach::Proxy { proxy: String::from("proxy.example.com:3128"), reason });
            let text = found.explain(&uri(STS));
            assert!(text.contains("the proxy proxy.example.com:3128 does not let us through"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_there_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        assert_eq!(
            reach_by(&OwnNetwork, &uri(&format!("https://{address}")), None).await,
            Reach::Answers { private: true }
        );
        drop(listener);
        assert_eq!(reach_by(&OwnNetwork, &uri(&format!("https://{address}")), None).await, Reach::Refused);
        assert_eq!(
            reach_by(&OwnNetwork, &uri("https://sts.eu-west-1.invalid"), None).await,
            Reach::NoSuchName
        );
    }

    #[tokio::test]
    async fn a_full_queue_of_connections_is_a_time_out() {
        // Nobody accepts: connections beyond the queue get no answer, as behind a closed security group.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let listener = socket.listen(0).expect("listening");
        let address = listener.local_addr().expect("an address");
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            held.push(stream);
        }
        let reach = reach_by(&OwnNetwork, &uri(&format!("https://{address}")), None).await;
        assert_eq!(reach, Reach::TimedOut { private: true });
    }

    #[tokio::test]
    async fn a_proxy_says_no_in_its_own_words() {
        for (answer, reason) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
            ("", "closes the connection"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut line = String::new();
                let mut lines = BufReader::new(&mut stream);
                while lines.read_line(&mut line).await.expect("a line") > 2 {}
                stream.write_all(answer.as_bytes()).await.expect("written");
                line
            });
            let authorization = HeaderValue::from_static("Basic dXNlcjpwYXNz");
            let hop = Hop {
                host: address.ip().to_string(),
                port: address.port(),
                speaks_tls: false,
                authorization: Some(authorization),
            };
            let found = reach_by(&OwnNetwork, &uri(STS), Some(&hop)).await;
            let Reach::Proxy { proxy, reason: said } = &found else { panic!("{found:?}") };
            assert_eq!(*proxy, address.to_string());
            assert!(said.contains(reason), "{said}");
            let request = server.await.expect("a request");
            assert!(request.starts_with("CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1"), "{request}");
            assert!(request.contains("Proxy-Authorization: Basic dXNlcjpwYXNz"), "{request}");
            assert!(!found.explain(&uri(STS)).contains("dXNlcjpwYXNz"));
        }
        let nobody =
            Hop { host: String::from("proxy.invalid"), port: 1, speaks_tls: false, authorization: None };
        let found = reach_by(&OwnNetwork, &uri(STS), Some(&nobody)).await;
        assert!(matches!(&found, Reach::Proxy { reason, .. } if reason.contains("no address")), "{found:?}");
    }
}
