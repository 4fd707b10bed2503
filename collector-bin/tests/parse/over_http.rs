//! Pages of a URL: what is asked for, and what an answer means.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::parse;

/// A target for one request: its URL, and the request's head when it has been answered.
fn target(status: &str, headers: &str, body: &[u8]) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), body].concat();
    let served = thread::spawn(move || {
        let mut stream = accept(&listener);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(&answer).unwrap();
        String::from_utf8(request).unwrap().to_ascii_lowercase()
    });
    (url, served)
}

/// Whoever comes, within a minute: a program that does not come fails its test.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..6000 {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody asked for the page");
}

const TEXT: &[u8] = b"# TYPE a gauge\na 1\n";
const OPENMETRICS: &[u8] = b"# TYPE a gauge\na 1\n# EOF\n";
const OPENMETRICS_2: &[u8] = b"# TYPE a histogram\na {count:1,sum:1,bucket:[+Inf:1]}\n# EOF\n";
const PROTOBUF: &[u8] = b"\x12\x0a\x01a\x18\x01\x22\x0b\x12\x09\x09\x00\x00\x00\x00\x00\x00\xf0\x3f";

#[test]
fn the_content_type_says_what_a_page_is() {
    for (content_type, page, status) in [
        ("text/plain", TEXT, 0),
        ("text/plain; version=0.0.4; charset=utf-8", TEXT, 0),
        ("text/plain; version=1.0.0; escaping=allow-utf-8", OPENMETRICS, 0),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS, 0),
        ("application/openmetrics-text; version=0.0.1", OPENMETRICS, 0),
        ("application/openmetrics-text", TEXT, 1),
        ("application/openmetrics-text; version=2.0.0", OPENMETRICS_2, 0),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS_2, 1),
        (
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            PROTOBUF,
            0,
        ),
        ("text/plain", PROTOBUF, 1),
        ("text/html", TEXT, 2),
    ] {
        let (url, served) = target("200 OK", &format!("content-type: {content_type}\r\n"), page);
        let run = parse(&["--output=none", &url], b"");
        served.join().unwrap();
        assert_eq!(run.status, status, "{content_type}: {}", run.stderr);
        assert_eq!(run.stderr.is_empty(), status == 0, "{content_type}: {}", run.stderr);
    }
}

#[test]
fn without_a_content_type_the_format_has_to_be_said() {
    let (url, served) = target("200 OK", "", TEXT);
    let run = parse(&["--output=none", &url], b"");
    served.join().unwrap();
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("no Content-Type") && run.stderr.contains("--format"), "{}", run.stderr);

    let (url, served) = target("200 OK", "", TEXT);
    let run = parse(&["--output=none", "--format=text", &url], b"");
    served.join().unwrap();
    assert_eq!((run.status, &*run.stderr), (0, ""));
}

#[test]
fn compressed_pages_are_read() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(TEXT).unwrap();
    let headers = "content-type: text/plain\r\ncontent-encoding: gzip\r\n";
    let (url, served) = target("200 OK", headers, &encoder.finish().unwrap());
    let run = parse(&[&url], b"");
    let request = served.join().unwrap();
    assert_eq!((run.status, &*run.stderr), (0, ""));
    assert!(run.stdout.ends_with("1 family, 1 metric, 1 point\n"), "{}", run.stdout);
    assert!(request.contains("\r\naccept-encoding: gzip\r\n"), "{request}");
}

#[test]
fn what_is_wanted_is_asked_for() {
    for (words, accept) in [
        (
            &[][..],
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;\
             version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,\
             */*;q=0.3",
        ),
        (
            &["--strict"],
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;\
             version=0.0.1;q=0.6,*/*;q=0.5",
        ),
        (
            &["--format=text"],
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.7,text/plain;version=0.0.4;q=0.6,*/*;q=0.5",
        ),
    ] {
        let (url, served) = target("200 OK", "content-type: text/plain\r\n", OPENMETRICS);
        let run = parse(&[words, &["--output=none", &url]].concat(), b"");
        let request = served.join().unwrap();
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(request.starts_with("get /metrics http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\naccept: {accept}\r\n")), "{request}");
    }
    let (url, served) = target("200 OK", "content-type: text/plain\r\n", TEXT);
    parse(&["--native-histograms", "--output=none", &url], b"");
    assert!(served.join().unwrap().contains("\r\naccept: application/vnd.google.protobuf;"));
}

#[test]
fn refusals_name_the_url_without_its_secrets() {
    let (url, served) = target("200 OK", "content-type: text/plain\r\n", b"a{b=c} 1\n");
    let secret = url.replace("http://", "http://user:hunter2@");
    let run = parse(&[&secret], b"");
    served.join().unwrap();
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("/metrics:1:5: expected a label value"), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}

#[test]
fn answers_that_are_no_page() {
    let (url, served) = target("503 Service Unavailable", "content-type: text/plain\r\n", TEXT);
    let run = parse(&[&url], b"");
    served.join().unwrap();
    assert_eq!((run.status, run.stderr), (2, format!("error: {url} answered 503 Service Unavailable\n")));

    let (url, served) = target("200 OK", "content-type: text/plain\r\n", &[b'\n'; 1000]);
    let run = parse(&["--max-bytes=100", &url], b"");
    served.join().unwrap();
    assert_eq!(run.status, 2, "{}", run.stderr);

    // Nobody listens where somebody did.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = parse(&[&format!("http://{free}/metrics")], b"");
    assert_eq!((run.status, &*run.stdout), (2, ""));
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
}
