//! One look for the object of a create: a GET as its caller, which a server that is up answers from
//! etcd.

use std::pin::pin;
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT,
    HeaderMap, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE, TE, TRAILER,
};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::Create;
use crate::body::{Body, Buffered};
use crate::forward::until;
use crate::proof::{self, Proof, Sent};
use crate::route;
use crate::status::{Encoding, Status};
use crate::upstream::LaneKind;
use crate::verdict::classify;

/// How long one look may take.
const WITHIN: Duration = Duration::from_secs(5);

/// What describes the body of the create, and what would make the answer another one.
const NOT_OF_A_LOOKUP: [http::HeaderName; 13] = [
    ACCEPT,
    ACCEPT_ENCODING,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TE,
    TRAILER,
];

/// What a look found.
#[derive(Debug)]
pub(super) enum Finding {
    /// There is no such object.
    Absent,
    /// The object with this uid, as the client accepts it. It is ours unless another create of this
    /// proxy may have stored it.
    Ours(String, Box<Response<Buffered>>),
    /// The object of somebody else.
    Foreign(&'static str),
    /// An object that may be ours or not.
    Unproven(&'static str),
    /// The caller may not get it.
    Forbidden,
    /// No answer, or one that tells nothing. The server may have asked to wait.
    Failed(Option<Duration>),
    /// The proxy stops.
    Stopping,
}

impl Finding {
    /// For `/debug/decisions` and traces.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ours(..) => "ours",
            Self::Foreign(_) => "foreign",
            Self::Unproven(_) => "unproven",
            Self::Forbidden => "forbidden",
            Self::Failed(_) => "failed",
            Self::Stopping => "stopping",
        }
    }
}

impl Create<'_> {
    /// Looks for the object once.
    pub(super) async fn look(&mut self) -> Finding {
        if !self.is_still_known() {
            return Finding::Forbidden;
        }
        let began = Instant::now();
        let latest = began + WITHIN;
        let latest = self
            .deadline
            .map_or(latest, |deadline| deadline.min(latest));
        let found = until(Some(latest), pin!(self.look_within())).await;
        let took = began.elapsed();
        self.waited_for_others += took;
        let found = found.unwrap_or(Finding::Failed(None));
        if let Some(trace) = &mut self.trace {
            trace.looked(began, found.as_str());
        }
        found
    }

    async fn look_within(&mut self) -> Finding {
        let encoding = match Encoding::sniff(&self.body.data) {
            Encoding::Protobuf => Encoding::Protobuf,
            // A create in CBOR has no name that is known here, so it is not looked for.
            Encoding::Json | Encoding::Yaml | Encoding::Cbor => Encoding::Json,
        };
        let found = match self.get(encoding.content_type()).await {
            Ok(found) => found,
            Err(finding) => return finding,
        };
        let Some(resolving) = &self.resolving else {
            return Finding::Failed(None);
        };
        let since = resolving.first_sent.elapsed();
        let manager = route::field_manager(&self.head);
        let sent = Sent {
            body: &self.body.data,
            namespace: &self.target.namespace,
            name: resolving.name.as_deref().unwrap_or_default(),
            manager: manager.as_deref(),
            at: proof::server_time(found.headers().get(DATE), since),
        };
        let Some(compared) = proof::compare(&sent, &found.body().data) else {
            return Finding::Unproven("the lookup found something else than an object");
        };
        match compared.proof {
            Proof::Foreign(why) => Finding::Foreign(why),
            Proof::Unknown(why) => Finding::Unproven(why),
            Proof::Ours => self.accepted(encoding, compared.uid, found).await,
        }
    }

    /// The object as the client accepts it, which may take another look.
    async fn accepted(
        &mut self,
        encoding: Encoding,
        uid: String,
        found: Response<Buffered>,
    ) -> Finding {
        let accept = self.head.headers.get(ACCEPT).cloned();
        // `as=Table` and its like ask for another form of the object.
        let converts = |accept: &HeaderValue| {
            let mut three = accept.as_bytes().windows(3);
            three.any(|each| each.eq_ignore_ascii_case(b"as="))
        };
        let other = accept
            .filter(|accept| converts(accept) || Encoding::of_accept(Some(accept)) != encoding);
        let found = match other {
            None if encoding == Encoding::Json => found,
            None if self.head.headers.contains_key(ACCEPT) => found,
            // Without `Accept` the apiserver answers in JSON.
            other => {
                let accept = other.unwrap_or_else(|| Encoding::Json.content_type());
                match self.get(accept).await {
                    Ok(found) => found,
                    Err(Finding::Absent) => {
                        return Finding::Unproven("the object was deleted while it was looked for");
                    }
                    Err(finding) => return finding,
                }
            }
        };
        if proof::uid_of(&found.body().data).as_ref() == Some(&uid) {
            Finding::Ours(uid, Box::new(found))
        } else {
            Finding::Unproven("the object cannot be compared in the form that the client accepts")
        }
    }

    /// Gets the object in this form.
    ///
    /// # Errors
    /// What another answer than the object means.
    async fn get(&mut self, accept: HeaderValue) -> Result<Response<Buffered>, Finding> {
        const CANNOT_BE_ASKED_FOR: Finding = Finding::Unproven("its name cannot be in a path");
        let request = self
            .lookup(accept)
            .map(Box::new)
            .ok_or(CANNOT_BE_ASKED_FOR)?;
        let sent = self.shared.upstream.send(LaneKind::Call, request).await;
        let (head, mut body) = sent.map_err(|_| Finding::Failed(None))?.into_parts();
        let lease = body.take_guard();
        let body = match self.collect(&mut body).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                return Err(Finding::Unproven(
                    "the object is too large to be compared, or there is no memory for it",
                ));
            }
            Err(error) => {
                if let Some(lease) = lease {
                    lease.lost(&error);
                }
                return Err(Finding::Failed(None));
            }
        };
        match head.status {
            StatusCode::OK => Ok(Response::from_parts(head, body)),
            StatusCode::NOT_FOUND if self.is_absent(&body.data) => Err(Finding::Absent),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Finding::Forbidden),
            // It would say so again, for example that the resource cannot be read.
            status
                if status.is_client_error()
                    && !matches!(
                        status,
                        StatusCode::NOT_FOUND
                            | StatusCode::REQUEST_TIMEOUT
                            | StatusCode::TOO_MANY_REQUESTS
                    ) =>
            {
                Err(Finding::Unproven("the apiserver refused the lookup"))
            }
            status => Err(Finding::Failed(
                classify(status, &head.headers, &body.data).retry_after,
            )),
        }
    }

    /// Whether the apiserver says that there is no object of this name. Others answer 404 too: load
    /// balancers, and the apiserver for a resource that it does not know.
    fn is_absent(&self, body: &[u8]) -> bool {
        let name = self.resolving.as_ref().and_then(|it| it.name.as_deref());
        let (group, _, plural) = self.target.group_version_resource();
        Status::decode(body).is_some_and(|status| {
            let details = &status.details;
            status.reason == "NotFound"
                && Some(&*details.name) == name
                && details.kind == plural
                && details.group == group
        })
    }

    /// The request for the object: that of the create, as far as it says who asks.
    fn lookup(&self, accept: HeaderValue) -> Option<Request<Body>> {
        let name = self.resolving.as_ref()?.name.as_deref()?;
        let collection = self.head.uri.path().trim_end_matches('/');
        let path = format!("{collection}/{}", proof::path_segment(name)?);
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::from(PathAndQuery::try_from(path).ok()?);
        *request.headers_mut() = self.head.headers.clone();
        without_body(request.headers_mut());
        request.headers_mut().insert(ACCEPT, accept);
        Some(request)
    }
}

fn without_body(headers: &mut HeaderMap) {
    for name in NOT_OF_A_LOOKUP {
        headers.remove(name);
    }
}
