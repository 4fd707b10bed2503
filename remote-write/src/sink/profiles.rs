use std::sync::Arc;

use promferry_model::{Labels, Stage};
use promferry_relabel::{RelabelConfig, RelabelRules};
use xxhash_rust::xxh3::xxh3_64;

use super::set::{ProfileLog, Set};
use super::{StartError, insist};
use crate::encode::Profile;
use crate::options::ConfigError;
use crate::spool::{Spool, SpoolError};
use crate::usage::Intake;
use crate::{Protocol, RemoteWriteConfig};

/// Which profiles endpoints have: those that there are already, and others, whose logs are not open yet.
#[derive(Default)]
pub(super) struct ProfilePlan {
    profiles: Vec<Planned>,
    /// The identity of each endpoint's, in the endpoints' order.
    of_endpoints: Vec<u64>,
}

enum Planned {
    Known(Arc<ProfileLog>),
    New { identity: u64, rules: Vec<RelabelConfig>, profile: Profile, after: Vec<Arc<ProfileLog>> },
}

impl Planned {
    fn identity(&self) -> u64 {
        match self {
            Self::Known(known) => known.identity,
            Self::New { identity, .. } => *identity,
        }
    }

    /// The same rules are the same stage, so that it is known that they make the same of every series.
    fn write_relabel(&self, wanted: &[RelabelConfig]) -> Option<&[Arc<dyn Stage>]> {
        match self {
            Self::Known(known) => (known.rules == wanted).then_some(&known.profile.write_relabel),
            Self::New { rules, profile, .. } => (rules == wanted).then_some(&profile.write_relabel),
        }
    }
}

/// The [`ProfilePlan`] of a start or a change, with every log open.
pub(super) struct OpenedProfiles {
    /// In the order of the set that there was, new ones last.
    pub(super) logs: Vec<Arc<ProfileLog>>,
    /// Each endpoint's.
    pub(super) of_endpoints: Vec<Arc<ProfileLog>>,
}

impl ProfilePlan {
    /// Plans for these endpoints, each with the profile that it has had, if any.
    ///
    /// # Errors
    /// [`StartError::Config`] for rules that can't be compiled.
    pub(super) fn new<'a>(
        current: Option<&Set>,
        external_labels: &Labels,
        endpoints: impl IntoIterator<Item = (&'a RemoteWriteConfig, Option<&'a Arc<ProfileLog>>)>,
    ) -> Result<Self, StartError> {
        let current = current.into_iter().flat_map(|set| &set.logs);
        let mut profiles: Vec<Planned> = current.map(|known| Planned::Known(Arc::clone(known))).collect();
        let mut of_endpoints = Vec::new();
        for (config, before) in endpoints {
            let (identity, mut profile) = profile_of(config, external_labels)
                .map_err(|source| StartError::Config { endpoint: config.key(), source })?;
            let rules = &config.write_relabel_configs;
            let at = match profiles.iter().position(|planned| planned.identity() == identity) {
                Some(at) => at,
                None => {
                    if let Some(same) = profiles.iter().find_map(|planned| planned.write_relabel(rules)) {
                        profile.write_relabel = same.to_vec();
                    }
                    let rules = rules.clone();
                    profiles.push(Planned::New { identity, rules, profile, after: Vec::new() });
                    profiles.len() - 1
                }
            };
            if let (Planned::New { after, .. }, Some(before)) = (&mut profiles[at], before) {
                after.push(Arc::clone(before));
            }
            of_endpoints.push(identity);
        }
        profiles.retain(|planned| of_endpoints.contains(&planned.identity()));
        Ok(Self { profiles, of_endpoints })
    }

    /// Opens the logs of new profiles. When one can't be opened, those that were are closed again.
    ///
    /// # Errors
    /// Those of [`Spool::open_log`].
    pub(super) async fn open(self, spool: &Spool) -> Result<OpenedProfiles, SpoolError> {
        let mut logs: Vec<Arc<ProfileLog>> = Vec::new();
        let mut opened = Vec::new();
        for planned in self.profiles {
            let (identity, rules, profile, after) = match planned {
                Planned::Known(known) => {
                    logs.push(known);
                    continue;
                }
                Planned::New { identity, rules, profile, after } => (identity, rules, profile, after),
            };
            let key = format!("{}-{identity:016x}", protocol_name(profile.protocol));
            let log = match insist(spool, || spool.open_log(&key)).await {
                Ok(log) => log,
                Err(error) => {
                    for log in opened {
                        spool.close_log(log).await?;
                    }
                    return Err(error);
                }
            };
            opened.push(log);
            let intake = Intake::after(after.iter().map(|before| &before.intake));
            logs.push(Arc::new(ProfileLog { identity, rules, profile: Arc::new(profile), log, intake }));
        }
        let of_endpoint = |identity| logs.iter().find(|known| known.identity == identity).map(Arc::clone);
        let of_endpoints = self.of_endpoints.into_iter().filter_map(of_endpoint).collect();
        Ok(OpenedProfiles { logs, of_endpoints })
    }
}

/// The profile of an endpoint, and a number that only equal profiles share; it names their log on disk.
fn profile_of(config: &RemoteWriteConfig, external_labels: &Labels) -> Result<(u64, Profile), ConfigError> {
    let protocol = config.protocol();
    let send_native_histograms = config.send_native_histograms || protocol == Protocol::V2;
    let rules = &config.write_relabel_configs;
    let identity = format!(
        "{external_labels} {rules:?} {protocol:?} {} {send_native_histograms}",
        config.send_exemplars
    );
    let compiled = RelabelRules::compile(rules, Default::default()).map_err(|error| ConfigError {
        path: std::iter::once("write_relabel_configs".to_owned()).chain(error.path).collect(),
        message: error.message,
    })?;
    let write_relabel =
        if rules.is_empty() { Vec::new() } else { vec![Arc::new(compiled) as Arc<dyn Stage>] };
    let profile = Profile {
        external_labels: external_labels.clone(),
        write_relabel,
        protocol,
        send_exemplars: config.send_exemplars,
        send_native_histograms,
    };
    Ok((xxh3_64(identity.as_bytes()), profile))
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "v1",
        Protocol::V2 => "v2",
    }
}
