//! HTTP in a case: requests are answered here, and none leaves the machine.

use parking_lot::Mutex;
use sandbar_core::Header;
use sandbar_pipeline::topic_matches;
use sandbar_test::{HttpRequest, HttpResponse, Respond};
use serde::Serialize;

use super::{Content, Difference, Ran};
use crate::event_json::BytesJson;

/// A request, and how it is answered.
#[derive(Debug, Clone)]
pub struct Fake {
    /// Which request.
    pub request: FakeRequest,
    /// What comes back.
    pub response: HttpResponse,
}

/// What is known of a request. What is not said may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The whole URL; `*` stands for anything.
    pub url: String,
    /// Headers that it has, among others.
    pub headers: Vec<Header>,
    /// Its body.
    pub body: Option<Content>,
}

impl FakeRequest {
    /// What is different about `request`, if anything is.
    fn differs_from(&self, request: &HttpRequest) -> Option<&'static str> {
        let has = |wanted: &Header| {
            request.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case(&wanted.name) && Some(value) == wanted.value.as_ref()
            })
        };
        if !topic_matches(&self.url, &request.url) {
            return Some("URL");
        }
        if self.method != request.method {
            return Some("method");
        }
        if !self.headers.iter().all(has) {
            return Some("headers");
        }
        let same_body = self.body.as_ref().is_none_or(|body| body.says(&request.body));
        (!same_body).then_some("body")
    }
}

/// A request that the plugin made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestJson {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Names in lower case, and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, BytesJson)>,
    /// The body, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BytesJson>,
    /// Status of the response; nothing where nobody answered.
    pub status: Option<u16>,
    /// What is different about it from the request that comes next to it, where nobody answered.
    #[serde(skip)]
    pub(super) differs_in: Option<&'static str>,
}

/// Answers the requests of one case.
#[derive(Debug)]
pub(super) struct Fakes {
    fakes: Vec<Fake>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Fakes that have answered.
    used: Vec<usize>,
    requests: Vec<RequestJson>,
}

impl Fakes {
    pub(super) fn new(fakes: Vec<Fake>) -> Self {
        Self { fakes, seen: Mutex::default() }
    }

    /// The requests since this was asked last.
    pub(super) fn take(&self) -> Vec<RequestJson> {
        std::mem::take(&mut self.seen.lock().requests)
    }

    /// Which one answers: of several for the same request the first that has not yet, else the
    /// last.
    fn choose(&self, request: &HttpRequest, used: &[usize]) -> Option<usize> {
        let first = self.fakes.iter().find(|fake| fake.request.differs_from(request).is_none())?;
        let all = self.fakes.iter().enumerate();
        let mut same = all.filter(|(_, f)| f.request == first.request).map(|(at, _)| at);
        let next = same.clone().find(|at| !used.contains(at));
        next.or_else(|| same.next_back())
    }
}

impl Respond for Fakes {
    fn respond(&self, request: HttpRequest) -> Option<HttpResponse> {
        let mut seen = self.seen.lock();
        let chosen = self.choose(&request, &seen.used);
        seen.used.extend(chosen);
        let response = chosen.and_then(|at| self.fakes.get(at)).map(|fake| fake.response.clone());
        let differs = self.fakes.iter().filter_map(|fake| fake.request.differs_from(&request));
        let differs_in = differs.filter(|what| *what != "URL").last();
        let HttpRequest { method, url, headers, body } = request;
        seen.requests.push(RequestJson {
            method,
            url,
            headers: headers.into_iter().map(|(name, value)| (name, BytesJson(value))).collect(),
            body: (!body.is_empty()).then_some(BytesJson(body)),
            status: response.as_ref().map(|response| response.status),
            differs_in,
        });
        response
    }
}

/// Requests that nobody answered. A case with one has failed, whatever came of it: nobody can say
/// what the plugin would have made of the response.
pub fn unanswered(ran: &Ran) -> Vec<Difference> {
    let requests = ran.answers.iter().flat_map(|answer| &answer.requests);
    let unanswered = requests.filter(|request| request.status.is_none());
    let difference = |request: &RequestJson| {
        let RequestJson { method, url, differs_in, .. } = request;
        let found = match differs_in {
            Some(what) => format!("the `[[http]]` for this URL has another {what}"),
            None => format!(
                "no `[[http]]` answers it: add one with `request = {{ method = \"{method}\", url = \
                 \"{url}\" }}` and its `response`"
            ),
        };
        Difference { at: format!("request {method} {url}"), expected: None, found: Some(found) }
    };
    unanswered.map(difference).collect()
}
