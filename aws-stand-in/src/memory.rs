//! IAM's entities in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Keys, Role};
use crate::{Policy, random};

#[derive(Default)]
pub(crate) struct Memory {
    roles: BTreeMap<String, Role>,
    /// Client ids by the provider's ARN.
    providers: BTreeMap<String, Vec<String>>,
    users: BTreeMap<String, User>,
}

struct User {
    user_id: String,
    permissions: Policy,
}

impl Memory {
    pub(crate) fn put_role(
        &mut self,
        arn: &str,
        trust: Policy,
        permissions: Option<Policy>,
        max_session: Duration,
    ) {
        let role = Role { trust, permissions, max_session, role_id: random::identifier("AROA") };
        self.roles.insert(arn.to_owned(), role);
    }

    pub(crate) fn role_mut(&mut self, arn: &str) -> &mut Role {
        self.roles.get_mut(arn).unwrap_or_else(|| panic!("there is no role {arn}"))
    }

    pub(crate) fn role(&self, arn: &str) -> Option<Role> {
        self.roles.get(arn).cloned()
    }

    pub(crate) fn put_provider(&mut self, arn: &str, client_ids: &[&str]) {
        self.providers.insert(arn.to_owned(), client_ids.iter().map(|&id| id.to_owned()).collect());
    }

    pub(crate) fn client_ids(&self, provider_arn: &str) -> Option<Vec<String>> {
        self.providers.get(provider_arn).cloned()
    }

    pub(crate) fn put_user(&mut self, arn: &str, permissions: Policy) -> (Keys, String) {
        let user_id = match self.users.remove(arn) {
            Some(user) => user.user_id,
            None => random::identifier("AIDA"),
        };
        self.users.insert(arn.to_owned(), User { user_id: user_id.clone(), permissions });
        let keys =
            Keys { access_key_id: random::identifier("AKIA"), secret_access_key: random::secret_key() };
        (keys, user_id)
    }

    pub(crate) fn user_policies(&self, arn: &str) -> Vec<Policy> {
        self.users.get(arn).map(|user| user.permissions.clone()).into_iter().collect()
    }
}
