//! Region and service: what a signature is valid for.

use crate::{Environment, SignError};

/// The region and service that a signature is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The service's signing name; `aps` for Amazon Managed Service for Prometheus.
    pub service: String,
}

impl Scope {
    /// What a public AWS endpoint's name says, as ADOT's `sigv4auth` extension infers it (contrib v0.156.0
    /// `extension/sigv4authextension`): workspaces of AMP (also FIPS, dual-stack, China), OpenSearch,
    /// CloudWatch Logs and metrics, X-Ray. `None` for any other name, names of interface endpoints
    /// (`vpce-…`) among them.
    ///
    /// ```
    /// use promferry_sigv4_auth::Scope;
    ///
    /// let scope = Scope::of_host("aps-workspaces.eu-west-1.amazonaws.com").expect("AMP's own name");
    /// assert_eq!((scope.region.as_str(), scope.service.as_str()), ("eu-west-1", "aps"));
    /// assert_eq!(Scope::of_host("amp.example.com"), None);
    /// ```
    pub fn of_host(host: &str) -> Option<Self> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if is_interface_endpoint(&host) {
            return None;
        }
        let name = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn"]
            .iter()
            .find_map(|suffix| host.strip_suffix(suffix)?.strip_suffix('.'))?;
        let labels: Vec<&str> = name.split('.').collect();
        let (service, region) = match labels.as_slice() {
            // OpenSearch's names are search-DOMAIN.REGION.es.
            [.., domain, region, "es"] if domain.starts_with("search-") || domain.starts_with("vpc-") => {
                ("es", *region)
            }
            [.., service, region] => (signing_name(service)?, *region),
            _ => return None,
        };
        is_region(region).then(|| Self { region: region.to_owned(), service: service.to_owned() })
    }

    /// Decides the scope of an endpoint: what is set, else what its host says, else (for the region)
    /// `AWS_REGION` and `AWS_DEFAULT_REGION`.
    ///
    /// `keys` are the names of the two options in the user's own configuration; the error says them.
    ///
    /// # Errors
    /// [`SignError::ScopeUnknown`] where one of the two can't be told.
    pub fn resolve(
        host: &str,
        region: Option<&str>,
        service: Option<&str>,
        environment: &Environment,
        keys: ScopeKeys,
    ) -> Result<Self, SignError> {
        let inferred = Self::of_host(host);
        let region = region
            .map(str::to_owned)
            .or_else(|| inferred.as_ref().map(|scope| scope.region.clone()))
            .or_else(|| environment.region());
        let service = service.map(str::to_owned).or_else(|| inferred.map(|scope| scope.service));
        match (region, service) {
            (Some(region), Some(service)) => Ok(Self { region, service }),
            (region, _) => Err(SignError::ScopeUnknown {
                what: if region.is_none() { "region" } else { "service" },
                why: if is_interface_endpoint(host) {
                    "the name of an interface endpoint can't be relied on for it"
                } else {
                    "it is no public AWS endpoint's name"
                },
                host: host.to_owned(),
                keys,
            }),
        }
    }
}

/// What the options for region and service are called in the user's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeKeys {
    /// The key of the region.
    pub region: &'static str,
    /// The key of the service.
    pub service: &'static str,
}

impl ScopeKeys {
    /// `sigv4.region` and `sigv4.service_name`.
    pub const PROMETHEUS: Self = Self { region: "sigv4.region", service: "sigv4.service_name" };
    /// `sigv4auth.region` and `sigv4auth.service`.
    pub const OPENTELEMETRY: Self = Self { region: "sigv4auth.region", service: "sigv4auth.service" };
}

fn signing_name(label: &str) -> Option<&'static str> {
    match label.strip_suffix("-fips").unwrap_or(label) {
        "aps-workspaces" | "aps" => Some("aps"),
        "logs" => Some("logs"),
        "monitoring" => Some("monitoring"),
        "xray" => Some("xray"),
        _ => None,
    }
}

fn is_interface_endpoint(host: &str) -> bool {
    host.starts_with("vpce-") || host.contains(".vpce.")
}

fn is_region(label: &str) -> bool {
    label.contains('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && label.bytes().last().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infers_from_hosts_as_adot_does() {
        let cases = [
            ("aps-workspaces.us-east-1.amazonaws.com", Some(("us-east-1", "aps"))),
            ("APS-workspaces.us-east-1.amazonaws.com.", Some(("us-east-1", "aps"))),
            ("aps-workspaces-fips.us-gov-west-1.amazonaws.com", Some(("us-gov-west-1", "aps"))),
            ("aps-workspaces.eu-central-1.api.aws", Some(("eu-central-1", "aps"))),
            ("aps-workspaces-fips.us-east-2.api.aws", Some(("us-east-2", "aps"))),
            ("aps-workspaces-fips.us-gov-west-1.api.aws", Some(("us-gov-west-1", "aps"))),
            ("aps-workspaces.us-gov-east-1.amazonaws.com", Some(("us-gov-east-1", "aps"))),
            ("aps-workspaces.cn-north-1.amazonaws.com.cn", Some(("cn-north-1", "aps"))),
            ("aps-workspaces-fips.cn-northwest-1.amazonaws.com.cn", Some(("cn-northwest-1", "aps"))),
            ("aps-workspaces.cn-north-1.api.amazonwebservices.com.cn", Some(("cn-north-1", "aps"))),
            ("aps-workspaces-fips.cn-north-1.api.amazonwebservices.com.cn", Some(("cn-north-1", "aps"))),
            ("aps-workspaces.cn-north-1.amazonwebservices.com.cn", None),
            ("search-my-domain-abc123.us-west-2.es.amazonaws.com", Some(("us-west-2", "es"))),
            ("logs.eu-west-1.amazonaws.com", Some(("eu-west-1", "logs"))),
            ("monitoring.eu-west-1.amazonaws.com", Some(("eu-west-1", "monitoring"))),
            ("xray.ap-southeast-3.amazonaws.com", Some(("ap-southeast-3", "xray"))),
            ("vpce-0a1b-2c3d.aps-workspaces.us-east-1.vpce.amazonaws.com", None),
            ("aps-workspaces.amazonaws.com", None),
            ("aps-workspaces.us-east-1.example.com", None),
            ("aps-workspaces.us-east-1.evilamazonaws.com", None),
            ("ec2.us-east-1.amazonaws.com", None),
            ("127.0.0.1", None),
            ("", None),
        ];
        for (host, expected) in cases {
            let scope = Scope::of_host(host);
            let found = scope.as_ref().map(|scope| (scope.region.as_str(), scope.service.as_str()));
            assert_eq!(found, expected, "{host}");
        }
    }

    #[test]
    fn what_is_set_wins_and_what_is_missing_is_named() {
        let nothing = Environment::from_pairs::<&str, &str>([]);
        let irsa = Environment::from_pairs([("AWS_REGION", "eu-north-1"), ("AWS_DEFAULT_REGION", "x-1")]);
        let host = "aps-workspaces.us-east-1.amazonaws.com";
        let keys = ScopeKeys::OPENTELEMETRY;
        let region = |host, region, environment: &Environment| {
            Scope::resolve(host, region, Some("aps"), environment, keys).map(|scope| scope.region)
        };
        assert_eq!(region(host, Some("eu-west-1"), &irsa).as_deref(), Ok("eu-west-1"));
        assert_eq!(region(host, None, &irsa).as_deref(), Ok("us-east-1"));
        assert_eq!(region("10.0.0.1", None, &irsa).as_deref(), Ok("eu-north-1"));
        assert!(region("10.0.0.1", None, &nothing).is_err());

        let vpce = "vpce-0a1b-2c3d.aps-workspaces.us-east-1.vpce.amazonaws.com";
        let error = Scope::resolve(vpce, None, None, &nothing, keys).expect_err("not inferred").to_string();
        assert!(error.contains("sigv4auth.region") && error.contains("sigv4auth.service"), "{error}");
        assert!(error.contains("interface endpoint"), "{error}");
        let error = Scope::resolve(vpce, None, Some("aps"), &nothing, ScopeKeys::PROMETHEUS)
            .expect_err("no region")
            .to_string();
        assert!(error.contains("sigv4.region") && error.contains("sigv4.service_name"), "{error}");
    }
}
