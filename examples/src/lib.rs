//! Each crate alone in a small program: `cargo run -p promferry-examples --example NAME`.
//!
//! - `read_page`: reads an exposition page.
//! - `families`: prints a table of a page's families.
//! - `convert_page`: turns a page into another format.
//! - `relabel_target`: says what relabelling rules do to a target, rule by rule.
//! - `watch_targets`: prints discovered targets as they change.
//! - `watch_cluster`: prints the targets of a Kubernetes cluster as they change.
//! - `scrape_target`: scrapes one target into memory.
//! - `push_counter`: a service that sends a counter of its own over remote write, signed where it goes to AWS.
//! - `receive`: a remote-write receiver that prints what it is sent.
//! - `sign_request`: signs a request with the credentials of the machine.
//! - `sign_with_hyper`: writes a sample with hyper's client behind the layer that signs.
//! - `sign_for_reqwest`: signs a request and sends it with reqwest.
//! - `check_config`: says whether configuration files can be used.
//!
//! `config/` holds configurations to start from; a test loads every one. `gateways/` has those for targets that are reached
//! through something else, `nginx/` what goes with them. `iam/hub/` has the roles and policies with which
//! many accounts write to one workspace; a test evaluates them. `rbac/` has the rights that discovery in Kubernetes needs; a
//! test shows that they suffice and that none is too much.
