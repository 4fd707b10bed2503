//! Redirects, as Go's `net/http` follows them, but those of requests that AWS' signature version 4 ties to one place.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use url::Url;

use crate::dial::Destination;
use crate::origin::Origin;
use crate::{Body, Error, Http};

/// As in Go: the eleventh request is not made.
const MAX_REDIRECTS: usize = 10;
/// Bodies of redirects up to this size are read so that the connection can be used again (as in Go).
const MAX_DRAINED_BYTES: usize = 2 << 10;

/// Put among a request's [extensions](Request::extensions) this has it arrive as it is or not at all: a 301, 302 or
/// 303 is then an answer like another. Go, and so a request without this, follows them with a GET without a body,
/// which may well succeed though nobody has seen what was posted.
#[derive(Clone, Copy, Debug)]
pub struct KeepMethod;

/// A request and where it has been sent on to.
pub(crate) struct Journey {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    first_host: String,
    redirects: usize,
    /// It is [`KeepMethod`]: what it carries arrives or it does not.
    keeps_method: bool,
    /// It is signed for one host and path.
    is_signed: bool,
    /// What only the origin gets that it is for, until it is sent on to another.
    origin: Option<Origin>,
    /// It has been sent to another host. That stays so even if a later redirect leads back, as in Go.
    estranged: bool,
}

impl Journey {
    pub(crate) fn new(request: Request<Bytes>) -> Result<(Self, Destination), Error> {
        let (parts, body) = request.into_parts();
        let destination = Destination::of(&parts.uri)?;
        let is_signed = is_signed(&parts.headers);
        let origin = Origin::of(&parts.extensions)?;
        let destination = served_as(destination, origin.as_ref());
        let journey = Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body,
            first_host: destination.host.to_lowercase(),
            redirects: 0,
            keeps_method: parts.extensions.get::<KeepMethod>().is_some(),
            is_signed,
            origin,
            estranged: false,
        };
        Ok((journey, destination))
    }

    pub(crate) fn is_redirected(&self) -> bool {
        self.redirects > 0
    }

    /// The request to make now.
    pub(crate) async fn request(&self, http: &Http, to: &Destination) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(origin) = &self.origin {
            origin.dress(request.headers_mut())?;
        }
        http.dress(request, to, self.origin.as_ref(), self.estranged).await
    }

    /// Looks at the answer of `from`: either it is the final one, or the journey goes on to another destination.
    pub(crate) async fn arrived(
        &mut self,
        response: Response<Incoming>,
        http: &Http,
        from: &Destination,
    ) -> Result<Arrival, Error> {
        let keep_method = match response.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return Ok(Arrival::Final(response.map(|body| Body::new(body, &from.host)))),
        };
        let location = response.headers().get(header::LOCATION).filter(|location| !location.is_empty());
        let follows = http.follows_redirects() && (keep_method || !self.keeps_method);
        let (true, Some(location)) = (follows, location) else {
            return Ok(Arrival::Final(response.map(|body| Body::new(body, &from.host))));
        };
        let fail = |reason: String| Error::Redirect { host: from.host.clone(), reason };
        if self.redirects == MAX_REDIRECTS {
            return Err(fail(format!(
                "it is the one after {MAX_REDIRECTS} others, probably they go round in circles"
            )));
        }
        let invalid = || fail("its Location is not a URL".to_owned());
        let base = Url::parse(&self.served_url()).map_err(|_| invalid())?;
        let target =
            location.to_str().ok().and_then(|location| base.join(location).ok()).ok_or_else(invalid)?;
        let mut uri: Uri = target.as_str().parse().map_err(|_| invalid())?;
        let stays = self.origin.is_some() && target.origin() == base.origin();
        if stays {
            uri = at_authority(uri, &self.uri).ok_or_else(invalid)?;
        }
        let to =
            Destination::of(&uri).map_err(|_| fail("its Location is neither http nor https".to_owned()))?;
        // Elsewhere its signature does not hold, and nobody there is to see the session token that goes with it.
        if self.is_signed && !(keep_method && self.holds_at(&uri) && (to.https || !from.https)) {
            return Ok(Arrival::Final(response.map(|body| Body::new(body, &from.host))));
        }
        if !keep_method {
            if self.method != Method::HEAD {
                self.method = Method::GET;
            }
            self.body = Bytes::new();
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH] {
                self.headers.remove(name);
            }
        }
        self.headers.remove(header::HOST);
        let to = if stays {
            served_as(to, self.origin.as_ref())
        } else {
            self.estranged |= self.origin.take().is_some();
            self.estranged |= !is_domain_or_subdomain(&to.host.to_lowercase(), &self.first_host);
            to
        };
        self.uri = uri;
        self.redirects += 1;
        // Whatever happens to the rest of this body, the answer is known.
        let _ = Body::new(response.into_body(), &from.host).read_to_end(MAX_DRAINED_BYTES).await;
        Ok(Arrival::GoOn(to))
    }
}

impl Journey {
    /// The URL as the server knows it, which redirects are relative to.
    fn served_url(&self) -> String {
        let served_as = self.origin.as_ref().and_then(|origin| origin.served_as.as_ref());
        let (Some(authority), Some(scheme)) = (served_as, self.uri.scheme_str()) else {
            return self.uri.to_string();
        };
        format!("{scheme}://{authority}{}", self.uri.path_and_query().map_or("/", |path| path.as_str()))
    }

    /// Whether a signature is the same there: it is over the host, the path and the query.
    fn holds_at(&self, uri: &Uri) -> bool {
        self.uri.authority() == uri.authority() && self.uri.path_and_query() == uri.path_and_query()
    }
}

/// `destination`, where TLS asks for the host that the request is served as.
fn served_as(destination: Destination, origin: Option<&Origin>) -> Destination {
    let served_as = origin.and_then(|origin| origin.served_as.as_ref()).filter(|_| destination.https);
    Destination { server_name: served_as.map(|authority| authority.host().to_owned()), ..destination }
}

/// `uri` at the scheme and authority of `home`.
fn at_authority(uri: Uri, home: &Uri) -> Option<Uri> {
    let mut parts = home.clone().into_parts();
    parts.path_and_query = uri.into_parts().path_and_query;
    Uri::from_parts(parts).ok()
}

/// Whether a request is signed as AWS' are ("AWS Signature Version 4 for API requests", IAM user guide).
fn is_signed(headers: &HeaderMap) -> bool {
    let authorization = headers.get(header::AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"))
}

pub(crate) enum Arrival {
    Final(Response<Body>),
    GoOn(Destination),
}

/// Whether credentials for `parent` may be shown to `host`.
fn is_domain_or_subdomain(host: &str, parent: &str) -> bool {
    if host == parent {
        return true;
    }
    let is_address =
        |host: &str| host.contains([':', '%', '[']) || host.parse::<std::net::Ipv4Addr>().is_ok();
    !is_address(host) && host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_domain_or_subdomain;

    #[test]
    fn credentials_stay_in_the_domain() {
        for (host, parent, stays) in [
            ("example.com", "example.com", true),
            ("a.example.com", "example.com", true),
            ("badexample.com", "example.com", false),
            ("example.com", "a.example.com", false),
            ("[::1%.example.com]", "example.com", false),
            ("1.2.3.4", "3.4", false),
        ] {
            assert_eq!(is_domain_or_subdomain(host, parent), stays, "{host} below {parent}");
        }
    }
}
