//! The API server's store, past the API server.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use promferry_bench::http_call;
use serde_json::{Value, json};

/// Puts in one transaction; etcd takes 128.
const OPERATIONS_MAX: usize = 100;
/// In one transaction, of the 32 MiB that this etcd is started with.
const TRANSACTION_BYTES: usize = 8 << 20;

/// etcd's HTTP gateway: <https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/>.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Etcd(pub(crate) SocketAddr);

impl Etcd {
    pub(crate) async fn put(self, objects: &[(String, Value)]) {
        let (mut operations, mut bytes) = (Vec::new(), 0);
        for (number, (key, object)) in objects.iter().enumerate() {
            let value = STANDARD.encode(object.to_string());
            bytes += value.len();
            operations.push(json!({ "requestPut": { "key": STANDARD.encode(key), "value": value } }));
            let is_last = number + 1 == objects.len();
            if is_last || operations.len() == OPERATIONS_MAX || bytes > TRANSACTION_BYTES {
                self.transact(std::mem::take(&mut operations)).await;
                bytes = 0;
            }
        }
    }

    pub(crate) async fn delete(self, keys: &[String]) {
        for keys in keys.chunks(OPERATIONS_MAX) {
            let operations = keys
                .iter()
                .map(|key| json!({ "requestDeleteRange": { "key": STANDARD.encode(key) } }))
                .collect();
            self.transact(operations).await;
        }
    }

    /// Forgets what was before now.
    pub(crate) async fn compact(self) {
        let answer =
            self.call("/v3/kv/range", &json!({ "key": STANDARD.encode("/"), "keys_only": true })).await;
        let revision = answer["header"]["revision"].as_str().expect("etcd tells its revision");
        self.call("/v3/kv/compaction", &json!({ "revision": revision, "physical": true })).await;
    }

    async fn transact(self, operations: Vec<Value>) {
        self.call("/v3/kv/txn", &json!({ "success": operations })).await;
    }

    async fn call(self, path: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json")];
        let (status, answer) = http_call::call(self.0, Method::POST, path, &headers, body.to_string())
            .await
            .unwrap_or_else(|error| panic!("etcd: {error}"));
        assert_eq!(status, StatusCode::OK, "etcd {path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("etcd {path}: {error}"))
    }
}
