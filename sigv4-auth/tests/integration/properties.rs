//! Laws of signing, over arbitrary requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, Request, Uri};
use promferry_sigv4_auth::verify::{KnownKey, Verifier, VerifyError};
use promferry_sigv4_auth::{Credentials, Scope, SignError, SigningParams, sign};
use proptest::prelude::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn scope() -> Scope {
    Scope { region: String::from("eu-west-1"), service: String::from("aps") }
}

fn verifier() -> Verifier {
    Verifier::new(|_| Some(KnownKey::new("secret"))).for_scope(scope())
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(
        path in r#"(/[A-Za-z0-9._~!$&'()*+,;=:@\[\]{}|^\\"%-]{0,8}){1,4}/?"#,
        query in r#"([a-z]{1,3}=[A-Za-z0-9._~!$'()*+,;=:@/?\[\]{}|^\\"%-]{0,5}&?){0,3}"#,
        value in "[ -~\t]{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        changed in any::<prop::sample::Index>(),
    ) {
        let Ok(uri) = format!("http://example.com{path}?{query}").parse::<Uri>() else { return Ok(()) };
        let mut request = Request::post(uri).body(body).expect("a request");
        let header = HeaderValue::from_str(&value).expect("visible text");
        request.headers_mut().insert("x-prometheus-remote-write-version", header);
        let credentials = Credentials::new("AKID", "secret", None);
        match sign(&mut request, &SigningParams { scope: &scope(), credentials: &credentials }, now()) {
            Err(SignError::QueryNotText) => return Ok(()),
            signed => signed.expect("signed"),
        }
        let (mut head, mut body) = request.into_parts();
        prop_assert_eq!(verifier().verify(&head, &body, now()), Ok(String::from("AKID")));

        body.push(b'x');
        prop_assert_eq!(verifier().verify(&head, &body, now()), Err(VerifyError::SignatureMismatch));
        body.pop();
        if !body.is_empty() {
            let at = changed.index(body.len());
            body[at] ^= 1;
            prop_assert_eq!(verifier().verify(&head, &body, now()), Err(VerifyError::SignatureMismatch));
            body[at] ^= 1;
        }
        head.headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static("9.9.9-changed-header"));
        prop_assert_eq!(verifier().verify(&head, &body, now()), Err(VerifyError::SignatureMismatch));
    }

    #[test]
    fn nothing_panics(
        uri in "\\PC{0,30}",
        name in "(host|content-type|x-amz-[a-z]{1,5}|authorization|x-amz-date)",
        value in proptest::collection::vec(any::<u8>(), 0..40),
        access_key in "\\PC{0,10}",
        token in proptest::option::of("\\PC{0,10}"),
    ) {
        let Ok(uri) = uri.parse::<Uri>() else { return Ok(()) };
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = uri;
        request.headers_mut().insert(name.clone(), value.clone());
        let credentials = Credentials::new(&access_key, "secret", token.as_deref());
        let signed = sign(&mut request, &SigningParams { scope: &scope(), credentials: &credentials }, now());
        if signed.is_err() {
            request.headers_mut().insert(name, value);
        }
        let (head, body) = request.into_parts();
        // Whatever it says, it says it.
        let _ = verifier().verify(&head, &body, now());
    }
}
