//! The recipes of `examples/gateways`, `examples/nginx` and `examples/rbac`, each with what it is made for: what the files
//! say runs as they say it, in a network in which targets can be reached by the recipe's way alone.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;

mod api_server;
mod connect;
#[path = "../fixture/inside.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod inside;
mod net;
mod nginx;
mod pages;
mod ray;
mod recipe;
mod scene;
