//! Prometheus' `http_config` where its keys stand among those of a mechanism.

/// Declares a struct to be deserialized: the keys of a mechanism, and beside them those of
/// [`HttpClientConfig`](promferry_http_client::HttpClientConfig), which `http_config()` takes out.
///
/// The keys are spelt out, because serde's `flatten` loses where in the file a value stands.
macro_rules! with_http_config {
    ($name:literal, struct $keys:ident { $($(#[$attribute:meta])* $key:ident: $type:ty,)* }) => {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, rename = $name)]
        struct $keys {
            $($(#[$attribute])* $key: $type,)*
            basic_auth: Option<promferry_http_client::BasicAuth>,
            authorization: Option<promferry_http_client::Authorization>,
            oauth2: Option<promferry_http_client::OAuth2>,
            bearer_token: Option<promferry_http_client::Secret>,
            bearer_token_file: Option<std::path::PathBuf>,
            tls_config: Option<promferry_http_client::TlsConfig>,
            proxy_url: Option<promferry_http_client::Secret>,
            no_proxy: Option<String>,
            proxy_from_environment: Option<bool>,
            proxy_connect_header:
                Option<std::collections::BTreeMap<String, Vec<promferry_http_client::Secret>>>,
            #[serde(
                default = "crate::mechanisms::http_config::on",
                deserialize_with = "crate::config::null_is_default"
            )]
            follow_redirects: bool,
            #[serde(
                default = "crate::mechanisms::http_config::on",
                deserialize_with = "crate::config::null_is_default"
            )]
            enable_http2: bool,
            http_headers:
                Option<std::collections::BTreeMap<String, promferry_http_client::HttpHeader>>,
        }

        impl $keys {
            fn http_config(&mut self) -> promferry_http_client::HttpClientConfig {
                let mut http = promferry_http_client::HttpClientConfig::default();
                http.basic_auth = self.basic_auth.take();
                http.authorization = self.authorization.take();
                http.oauth2 = self.oauth2.take();
                http.bearer_token = self.bearer_token.take().unwrap_or_default();
                http.bearer_token_file = self.bearer_token_file.take().unwrap_or_default();
                http.tls_config = self.tls_config.take().unwrap_or_default();
                http.proxy_url = self.proxy_url.take().unwrap_or_default();
                http.no_proxy = self.no_proxy.take().unwrap_or_default();
                http.proxy_from_environment = self.proxy_from_environment.unwrap_or_default();
                http.proxy_connect_header = self.proxy_connect_header.take().unwrap_or_default();
                http.follow_redirects = self.follow_redirects;
                http.enable_http2 = self.enable_http2;
                http.http_headers = self.http_headers.take().unwrap_or_default();
                http
            }
        }
    };
}

pub(super) use with_http_config;

pub(super) fn on() -> bool {
    true
}
