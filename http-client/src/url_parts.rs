/// A URL's parts as they stand in its text, to tell what of it may be shown. Any text has them; whether it is a URL is
/// judged where it is asked.
///
/// ```
/// use promferry_http_client::UrlParts;
///
/// let url = UrlParts::of("https://user:password@example.com/metrics?token=abc&debug#top");
/// assert_eq!((url.user, url.password), ("user", "password"));
/// assert_eq!(url.shown(), "https://example.com/metrics?token=xxxxx&xxxxx");
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct UrlParts<'a> {
    /// With its `://`; empty where there is none.
    pub scheme: &'a str,
    /// Empty where there is none.
    pub user: &'a str,
    /// Empty where there is none.
    pub password: &'a str,
    /// The host with its port where it has one, and the path.
    pub host_and_path: &'a str,
    /// Without its `?`; empty where there is none.
    pub query: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits the text. A fragment is left out.
    pub fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
        let rest = rest.split('#').next().unwrap_or_default();
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before_query.find('/').unwrap_or(before_query.len());
        let (userinfo, host_and_path) = match before_query[..authority].rfind('@') {
            Some(at) => (&before_query[..at], &before_query[at + 1..]),
            None => ("", before_query),
        };
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Self { scheme, user, password, host_and_path, query }
    }

    /// The URL without user and password, the values of its query as `xxxxx`: they may be keys.
    pub fn shown(&self) -> String {
        let Self { scheme, host_and_path, query, .. } = self;
        let mut shown = format!("{scheme}{host_and_path}");
        for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((name, _)) => {
                    shown.push_str(name);
                    shown.push_str("=xxxxx");
                }
                // Without a name it may be a secret as a whole.
                None => shown.push_str("xxxxx"),
            }
        }
        shown
    }
}
