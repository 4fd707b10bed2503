//! A Kubernetes API server in memory: lists in pages and as streams, watches, bookmarks, versions that are forgotten,
//! refusals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct ApiServer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    /// By the plural and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    /// Version, plural, object before and after.
    history: Vec<(u64, String, Option<Value>, Option<Value>)>,
    /// Watches from before this version are refused.
    oldest: u64,
    /// What was listed, and at which version.
    lists: Vec<(u64, Vec<Value>)>,
    /// Open watches end when this moves.
    generation: u64,
    /// What is answered to requests whose path ends so: the status line and the body.
    refusals: BTreeMap<String, (String, String)>,
    /// What watches of this plural say instead of what happened, once.
    scripts: BTreeMap<String, String>,
    /// How it deals with lists that are asked for as streams.
    streams: Streams,
    /// As `refusals`, of pages alone.
    list_refusals: BTreeMap<String, (String, String)>,
    /// The same of watches that do not begin with a list.
    watch_refusals: BTreeMap<String, (String, String)>,
    /// No page but the first one of a list is there.
    are_pages_broken: bool,
    /// How long the answer to a list takes.
    list_time: Duration,
    lists_at_once: usize,
    pub(crate) most_lists_at_once: usize,
    /// What has to be shown to be answered, if anything.
    token: Option<String>,
    pub(crate) requests: Vec<String>,
    /// When each of them came.
    pub(crate) times: Vec<Instant>,
}

/// How lists are streamed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    #[default]
    Whole,
    /// As kube-apiserver 1.36.3 does it where its feature WatchList is off.
    Refused,
    /// The request is not taken for a valid one.
    Invalid,
    /// Refused after the answer has begun, as without the progress of etcd.
    RefusedWithin,
    /// Nothing but an internal error comes of it.
    Failing,
    /// They break off before the end.
    Broken,
    /// Their end is never told, as by servers that do not know of them.
    Endless,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { version: 100, ..State::default() }));
        let (changed, _) = watch::channel(());
        let (shared, changes) = (state.clone(), changed.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, shared.clone(), changes.subscribe()));
            }
        });
        Self { url, state, changed, task }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Creates an object or replaces it.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let key = (plural.to_owned(), key(&object));
        let before = state.objects.insert(key, object.clone());
        state.happened(plural, before, Some(object));
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state();
        state.version += 1;
        let mut object = state.objects.remove(&(plural.to_owned(), name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.happened(plural, Some(object), None);
        drop(state);
        self.changed.send_replace(());
    }

    /// An object as it is.
    pub(crate) fn object(&self, plural: &str, name: &str) -> Value {
        self.state().objects[&(plural.to_owned(), name.to_owned())].clone()
    }

    pub(crate) fn has(&self, plural: &str, name: &str) -> bool {
        self.state().objects.contains_key(&(plural.to_owned(), name.to_owned()))
    }

    /// Says nothing about what happened until now but in lists.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.oldest = state.version + 1;
        state.version += 1;
    }

    /// Answers requests for pages whose path ends so with this status and body.
    pub(crate) fn refuse_lists(&self, path: &str, status: &str, body: &str) {
        let refusal = (status.to_owned(), body.to_owned());
        self.state().list_refusals.insert(path.to_owned(), refusal);
    }

    /// Answers watches whose path ends so, but for those that begin with a list, with this status and body, until it is
    /// empty.
    pub(crate) fn refuse_watches(&self, path: &str, status: &str, body: &str) {
        let mut state = self.state();
        match status {
            "" => drop(state.watch_refusals.remove(path)),
            _ => drop(state.watch_refusals.insert(path.to_owned(), (status.to_owned(), body.to_owned()))),
        }
    }

    /// From now on answers those only who show this token.
    pub(crate) fn want_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    pub(crate) fn break_pages(&self, are_broken: bool) {
        self.state().are_pages_broken = are_broken;
    }

    /// Takes some time for each list.
    pub(crate) fn hold_lists(&self, time: Duration) {
        self.state().list_time = time;
    }

    pub(crate) fn stream(&self, streams: Streams) {
        self.state().streams = streams;
    }

    /// How often a list was begun whose request line contains all of `parts`, in whichever way lists are asked for.
    pub(crate) fn lists(&self, parts: &[&str]) -> usize {
        let way = match self.state().streams {
            Streams::Whole | Streams::Broken => "sendInitialEvents=true",
            _ => "limit=",
        };
        let of = |more: &[&str]| self.count(&[parts, &[way], more].concat());
        of(&[]) - of(&["continue="])
    }

    /// Ends all watches, without a word.
    pub(crate) fn disconnect(&self) {
        self.state().generation += 1;
        self.changed.send_replace(());
    }

    /// Answers requests whose path ends so with this status and body, until it is empty.
    pub(crate) fn refuse(&self, path: &str, status: &str, body: &str) {
        let mut state = self.state();
        match status {
            "" => drop(state.refusals.remove(path)),
            _ => drop(state.refusals.insert(path.to_owned(), (status.to_owned(), body.to_owned()))),
        }
    }

    /// The next watch says this.
    pub(crate) fn script(&self, plural: &str, lines: &str) {
        self.state().scripts.insert(plural.to_owned(), lines.to_owned());
    }

    /// How often something was asked for whose request line contains all of `parts`.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        let state = self.state();
        let is_it = |request: &&String| {
            parts.iter().all(|part| request.lines().next().unwrap_or_default().contains(part))
        };
        state.requests.iter().filter(is_it).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn happened(&mut self, plural: &str, before: Option<Value>, after: Option<Value>) {
        self.history.push((self.version, plural.to_owned(), before, after));
    }
}

fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", metadata["name"].as_str().unwrap()),
        None => metadata["name"].as_str().unwrap().to_owned(),
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, mut changes: watch::Receiver<()>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let is_known = {
            let mut state = state.lock().unwrap();
            let line = state.token.as_ref().map(|token| format!("authorization: Bearer {token}\r"));
            let is_known = line.is_none_or(|line| head.contains(&line));
            state.requests.push(head);
            state.times.push(Instant::now());
            is_known
        };
        if !is_known {
            answer(&mut stream, "401 Unauthorized", "{}").await;
            continue;
        }
        let (path, query) = target.split_once('?').unwrap();
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let plural = path.rsplit('/').next().unwrap().to_owned();
        let namespace = path.split_once("/namespaces/").map(|(_, rest)| rest.split('/').next().unwrap());
        let is_selected = |object: &Value| {
            let pairs = |name: &str| {
                let text = query.get(name).cloned().unwrap_or_default();
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
            };
            namespace.is_none_or(|of| object["metadata"]["namespace"] == of)
                && pairs("labelSelector")
                    .iter()
                    .all(|(name, value)| object["metadata"]["labels"][name] == **value)
                && pairs("fieldSelector").iter().all(|(path, value)| {
                    object.pointer(&format!("/{}", path.replace('.', "/"))) == Some(&json!(value))
                })
        };
        let refusal = {
            let state = state.lock().unwrap();
            let of = |refusals: &BTreeMap<String, (String, String)>| {
                refusals.iter().find(|(end, _)| path.ends_with(*end)).map(|(_, refusal)| refusal.clone())
            };
            let of_kind = match (query.contains_key("watch"), query.contains_key("sendInitialEvents")) {
                (false, _) => of(&state.list_refusals),
                (true, false) => of(&state.watch_refusals),
                (true, true) => None,
            };
            of(&state.refusals).or(of_kind)
        };
        if let Some((status, body)) = refusal {
            answer(&mut stream, &status, &body).await;
            continue;
        }
        let is_list = !query.contains_key("watch") || query.contains_key("sendInitialEvents");
        let time = state.lock().unwrap().list_time;
        if is_list && !time.is_zero() {
            {
                let mut state = state.lock().unwrap();
                state.lists_at_once += 1;
                state.most_lists_at_once = state.most_lists_at_once.max(state.lists_at_once);
            }
            tokio::time::sleep(time).await;
            state.lock().unwrap().lists_at_once -= 1;
        }
        if !query.contains_key("watch") {
            let page = {
                let mut state = state.lock().unwrap();
                let (list, from) = match query.get("continue").map(|next| next.split_once('-').unwrap()) {
                    Some((list, from)) => (list.parse().unwrap(), from.parse().unwrap()),
                    None => {
                        let of_kind = state.objects.iter().filter(|((of, _), _)| *of == plural);
                        let all = of_kind.map(|(_, object)| object).filter(|object| is_selected(object));
                        let list = (state.version, all.cloned().collect());
                        state.lists.push(list);
                        (state.lists.len() - 1, 0)
                    }
                };
                // All pages are of the moment of the first one.
                let (version, all) = &state.lists[list];
                let limit: usize = query["limit"].parse().unwrap();
                let items: Vec<_> = all.iter().skip(from).take(limit).collect();
                let mut metadata = json!({ "resourceVersion": version.to_string() });
                let next = from + items.len();
                if next < all.len() {
                    metadata["continue"] = json!(format!("{list}-{next}"));
                }
                // As Go writes a list that is nil.
                let items = if items.is_empty() { Value::Null } else { json!(items) };
                let page = json!({ "kind": "List", "metadata": metadata, "items": items });
                let is_there = *version >= state.oldest && !state.are_pages_broken;
                (from == 0 || is_there).then(|| page.to_string())
            };
            let Some(page) = page else {
                answer(&mut stream, "410 Gone", "{}").await;
                continue;
            };
            answer(&mut stream, "200 OK", &page).await;
            continue;
        }
        let mut version: u64 = query["resourceVersion"].parse().unwrap();
        let generation = state.lock().unwrap().generation;
        let streams = query.contains_key("sendInitialEvents").then(|| state.lock().unwrap().streams);
        let refusal = match streams {
            Some(Streams::Refused) => Some((
                "422 Unprocessable Entity",
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature \
                 gate is enabled",
            )),
            Some(Streams::Failing) => Some(("500 Internal Server Error", "no")),
            Some(Streams::Invalid) => {
                Some(("400 Bad Request", "the server could not understand the request"))
            }
            _ => None,
        };
        if let Some((status, message)) = refusal {
            answer(&mut stream, status, &json!({ "kind": "Status", "message": message }).to_string()).await;
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if let Some(streams) = streams {
            let (all, script) = {
                let mut state = state.lock().unwrap();
                version = state.version;
                let of_kind = state.objects.iter().filter(|((of, _), _)| *of == plural);
                let all = of_kind.map(|(_, object)| object).filter(|object| is_selected(object));
                let all: Vec<Value> =
                    all.map(|object| json!({ "type": "ADDED", "object": object })).collect();
                (all, state.scripts.remove(&plural))
            };
            let mut lines: String = all.iter().map(|line| format!("{line}\n")).collect();
            match streams {
                Streams::RefusedWithin => {
                    let status = json!({ "code": 500, "message": "RequestWatchProgress is disabled" });
                    lines = format!("{}\n", json!({ "type": "ERROR", "object": status }));
                }
                Streams::Broken => lines.truncate(lines.len() / 2),
                _ => lines += &bookmark(version, true),
            }
            if streams == Streams::Endless {
                chunk(&mut stream, &all.iter().map(|line| format!("{line}\n")).collect::<String>()).await;
                let _ = stream.read(&mut [0]).await;
                return;
            }
            let has_script = script.is_some();
            chunk(&mut stream, &(lines + &script.unwrap_or_default())).await;
            if has_script || streams != Streams::Whole {
                let _ = stream.write_all(b"0\r\n\r\n").await;
                continue;
            }
        }
        if version < state.lock().unwrap().oldest {
            chunk(&mut stream, include_str!("data/watch-expired.jsonl")).await;
            let _ = stream.write_all(b"0\r\n\r\n").await;
            continue;
        }
        let script = state.lock().unwrap().scripts.remove(&plural);
        if let Some(script) = script {
            chunk(&mut stream, &script).await;
            let _ = stream.write_all(b"0\r\n\r\n").await;
            continue;
        }
        loop {
            let lines = {
                let state = state.lock().unwrap();
                if state.generation != generation {
                    return;
                }
                let new = state.history.iter().filter(|(at, of, ..)| *at > version && *of == plural);
                let events = new.filter_map(|(at, _, before, after)| {
                    let selected =
                        [before, after].map(|object| object.as_ref().filter(|object| is_selected(object)));
                    // Of what leaves the selection it is said that it was deleted.
                    let (kind, object) = match selected {
                        [None, None] => return None,
                        [None, Some(after)] => ("ADDED", after),
                        [Some(_), Some(after)] => ("MODIFIED", after),
                        [Some(before), None] => ("DELETED", before),
                    };
                    let mut object = object.clone();
                    object["metadata"]["resourceVersion"] = json!(at.to_string());
                    Some(format!("{}\n", json!({"type": kind, "object": object})))
                });
                let lines: String = events.collect();
                version = state.version;
                lines + &bookmark(version, false)
            };
            chunk(&mut stream, &lines).await;
            // A client that went away is noticed by reading.
            let mut byte = [0];
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stream.read(&mut byte) => return,
            }
        }
    }
}

/// The line that says how far everything is told; that of the end of a streamed list is marked.
fn bookmark(version: u64, is_end: bool) -> String {
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if is_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    let object = json!({ "kind": "Any", "apiVersion": "v1", "metadata": metadata });
    format!("{}\n", json!({ "type": "BOOKMARK", "object": object }))
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}

/// In two pieces, so that lines do not come whole.
async fn chunk(stream: &mut TcpStream, text: &str) {
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    for part in [first, second] {
        if !part.is_empty() {
            let _ = stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await;
            let _ = stream.write_all(part).await;
            let _ = stream.write_all(b"\r\n").await;
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
