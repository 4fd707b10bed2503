//! STS' answers, as XML.

use http::{HeaderValue, Response};

use crate::sts::actions::Answered;

pub(crate) fn of(answered: &Answered, request_id: &str) -> Response<String> {
    let (action, result) = match answered {
        Answered::Session { action, session, subject } => {
            // Whole seconds, as AWS gives them.
            let expiration = humantime::format_rfc3339_seconds(session.expires_at);
            let subject = subject.as_ref().map_or_else(String::new, |subject| {
                format!(
                    "<SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken><Audience>{}</Audience>\
                     <Provider>{}</Provider>",
                    escaped(&subject.subject),
                    escaped(&subject.audience),
                    escaped(&subject.provider_arn),
                )
            });
            let result = format!(
                "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
                 <SessionToken>{}</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
                 <AssumedRoleUser><AssumedRoleId>{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>{subject}",
                session.keys.access_key_id,
                session.keys.secret_access_key,
                session.keys.session_token,
                escaped(&session.user_id),
                escaped(&session.arn),
            );
            (*action, result)
        }
        Answered::Identity { arn, user_id, account } => {
            let result = format!(
                "<Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>",
                escaped(arn),
                escaped(user_id)
            );
            ("GetCallerIdentity", result)
        }
    };
    let mut response = Response::new(format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>\n"
    ));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/xml"));
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        headers.insert("x-amzn-requestid", request_id);
    }
    response
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
