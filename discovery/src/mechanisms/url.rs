/// As Go's `URL.Redacted` writes it.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:xxxxx@{host}{path}"),
        None => url.to_owned(),
    }
}

/// The same, with `xxxxx` for the values of the query: they may be keys.
#[cfg(feature = "http")]
pub(crate) fn without_secrets(url: &str) -> String {
    let url = without_password(url);
    let Some((before, query)) = url.split_once('?') else {
        return url;
    };
    // A parameter without a name may be a secret as a whole.
    let hide = |pair: &str| {
        pair.split_once('=').map_or_else(|| "xxxxx".to_owned(), |(name, _)| format!("{name}=xxxxx"))
    };
    let pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).map(hide).collect();
    format!("{before}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::without_password;
    #[cfg(feature = "http")]
    use super::without_secrets;

    #[test]
    fn passwords_are_not_in_names() {
        for (url, shown) in [
            ("http://user:secret@host:80/a@b?c", "http://user:xxxxx@host:80/a@b?c"),
            ("http://user@host/", "http://user@host/"),
            ("http://host/user:x@y", "http://host/user:x@y"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn keys_are_not_in_what_is_shown() {
        for (url, shown) in [
            ("http://host/sd", "http://host/sd"),
            ("http://user:secret@host/sd?token=secret&a=b&", "http://user:xxxxx@host/sd?token=xxxxx&a=xxxxx"),
            ("http://host?secret", "http://host?xxxxx"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
