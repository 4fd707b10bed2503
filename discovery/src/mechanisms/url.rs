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

#[cfg(test)]
mod tests {
    use super::without_password;

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
}
