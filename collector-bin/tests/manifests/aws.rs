//! The AWS side of a pod with a service account that may assume a role (IRSA), and the workspace of the role's account.

use promferry_aws_stand_in::{Cloud, Issuer, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::farm::Farm;
use std::path::Path;
use std::time::Duration;

use crate::collector::until_within;
use crate::published::{Published, below};

const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "111122223333";
const ROLE: &str = "arn:aws:iam::111122223333:role/collector";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:monitoring:collector";
const AUDIENCE: &str = "sts.amazonaws.com";
const WORKSPACE: &str = "ws-own";
/// What stands in the manifests for the workspace's URL.
const PUBLISHED_URL: &str =
    "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-own/api/v1/remote_write";
/// Jobs of a minute are scraped for the first time within one.
const FIRST_SCRAPE: Duration = Duration::from_secs(120);

pub(crate) struct Aws {
    workspaces: Workspaces,
    sts: Sts,
    token: ProjectedToken,
    _issuer: Issuer,
}

impl Aws {
    pub(crate) async fn start(folder: &Path) -> Self {
        let cloud = Cloud::memory();
        let issuer = Issuer::start().await;
        cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE);
        let may_write = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"aps:RemoteWrite",
                "Resource":"arn:aws:aps:{REGION}:{ACCOUNT}:workspace/{WORKSPACE}"}}]}}"#
        );
        let may_write = Policy::parse(&may_write).unwrap();
        cloud.add_role(ROLE, trust, Some(may_write), Duration::from_secs(3600)).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(ACCOUNT, WORKSPACE, None).await;
        let token = issuer.token(SERVICE_ACCOUNT, AUDIENCE, Duration::from_secs(24 * 3600));
        let token = ProjectedToken::new(folder.join("irsa"), &token);
        let sts = Sts::start(&cloud).await;
        Self { workspaces, sts, token, _issuer: issuer }
    }

    /// What EKS' webhook adds to the pod's environment, and where the stand-in of STS is.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", self.token.path().display().to_string()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_STS", self.sts.url()),
        ]
    }

    /// Writes a published configuration to where its command line looks for it, the workspace's URL in place.
    pub(crate) fn mount(&self, folder: &Path, path: &str, configuration: &str) {
        assert_eq!(configuration.matches(PUBLISHED_URL).count(), 1);
        let configuration = configuration.replace(PUBLISHED_URL, &self.workspaces.url(WORKSPACE));
        mount(folder, path, &configuration);
    }

    /// Waits until samples of each of these targets have arrived, ends the program, which must end with 0, and gives what
    /// it logged. Every request was signed, and taken.
    pub(crate) async fn delivered(&self, farms: &[&Farm], published: Published) -> String {
        let instances: Vec<_> =
            farms.iter().flat_map(|farm| farm.addresses()).map(|address| address.to_string()).collect();
        let has_all = async || {
            let received = self.workspaces.received(WORKSPACE).instances;
            let has = |instance| received.get(instance).is_some_and(|instance| !instance.scrapes.is_empty());
            instances.iter().all(has)
        };
        until_within(FIRST_SCRAPE, "samples of each target arrive", has_all).await;
        let log = published.stop().await;
        let requests = self.workspaces.requests();
        let is_taken =
            requests.iter().all(|request| request.status.is_some_and(|status| status.is_success()));
        assert!(is_taken && !requests.is_empty(), "{requests:?}\n{log}");
        let caller = format!("assumed-role/{}", ROLE.rsplit('/').next().unwrap());
        let is_signed = |arn: &String| arn.contains(&caller);
        assert!(
            requests.iter().all(|request| request.caller_arn.as_ref().is_some_and(is_signed)),
            "{requests:?}"
        );
        log
    }
}

/// Writes a file that the manifest mounts.
pub(crate) fn mount(folder: &Path, path: &str, text: &str) {
    let path = below(folder, path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The words of a published command line.
pub(crate) fn words(args: &str) -> Vec<String> {
    args.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}
