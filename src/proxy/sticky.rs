//! The session of a request: the endpoint that it belongs to, what is said of that to the client, and what of it the
//! endpoint does not see.

use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::handle::came_by_https;
use super::hash_key;
use crate::base::clock::Millis;
use crate::message::cookies;
use crate::message::edits::Edits;
use crate::message::head::{HeadBuf, Method, RequestHead, ResponseHead};
use crate::message::names::Name;
use crate::message::params::cookie_values;
use crate::message::token::Token;
use crate::routing::RouteInput;
use crate::telemetry::metrics::{CookieSet, Sticky};
use crate::upstream::shared::balancer::ring;
use crate::upstream::shared::sticky::sessions::Session;
use crate::upstream::shared::sticky::value::Unfit;
use crate::upstream::shared::sticky::{By, CookiePlan, LearnPlan, Missing, OnMissing, SessionName, unix_now};
use crate::upstream::shared::{StickyPlan, UpstreamPlan};

/// Cookies of our name that are looked at in one request. A browser sends two where two paths or domains have one;
/// who sends more wants to see us work.
const MOST_COOKIES: usize = 4;
/// Names of sessions that are learned from one response.
const MOST_LEARNED: usize = 8;

/// What is known of a request's session. By `Default` the upstream keeps none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stay {
    /// What the request came with; `None` where sessions are not kept.
    found: Option<Sticky>,
    /// The endpoint that the session belongs to.
    home: Option<u32>,
    /// Why the session could not be there.
    lost: Option<Missing>,
    /// The cookie says so, and should be made anew.
    stale: bool,
    /// The application's name for it.
    session: Option<Session>,
    /// Another endpoint will not do.
    strict: bool,
}

impl Stay {
    const fn found(what: Sticky) -> Self {
        Self {
            found: Some(what),
            home: None,
            lost: None,
            stale: false,
            session: None,
            strict: false,
        }
    }

    /// A session that belongs to this endpoint; `None`: to one that is not there any more.
    fn at(home: Option<usize>) -> Self {
        Self {
            home: home.map(|index| index as u32),
            lost: home.is_none().then_some(Missing::Gone),
            ..Self::found(Sticky::Kept)
        }
    }

    /// The endpoint that the session belongs to.
    pub fn home(&self) -> Option<usize> {
        self.home.map(|index| index as usize)
    }

    /// Its endpoint cannot be used for this reason.
    pub const fn lose(&mut self, why: Missing) {
        self.lost = Some(why);
    }

    pub const fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether a request that is not, or no longer, to be tried at its session's endpoint may be tried at none.
    pub const fn is_bound(&self) -> bool {
        self.strict && (self.home.is_some() || self.lost.is_some())
    }

    /// What became of the session, which was tried at this endpoint last.
    pub fn outcome(&self, last: Option<usize>) -> Option<Sticky> {
        let found = self.found?;
        Some(match (self.home(), self.lost) {
            (Some(home), _) if last == Some(home) => Sticky::Kept,
            (_, Some(Missing::Gone)) => Sticky::Gone,
            (_, Some(Missing::Unwell)) => Sticky::Unwell,
            (_, Some(Missing::Full)) => Sticky::Full,
            (Some(_), None) if last.is_some() => Sticky::Failed,
            // It came to no endpoint at all, for reasons of its own.
            (Some(_), None) => return None,
            (None, None) => found,
        })
    }
}

/// What a request comes with: its session, and the hash of what it is picked by where that is not its home.
pub(super) fn recognise(
    upstream: &UpstreamPlan,
    sticky: &StickyPlan,
    request: &RouteInput<'_>,
    use_it: bool,
) -> (Stay, Option<u64>) {
    let by_balance = || upstream.hash_key().and_then(|key| hash_key::of(key, request));
    let strict = sticky.on_missing == OnMissing::Reject;
    match &sticky.by {
        By::Cookie(cookie) => {
            let stay = by_cookie(cookie, &request.head.buf);
            (Stay { strict, ..stay }, by_balance())
        }
        By::Learn(learn) => match named(&learn.name, request.head) {
            Some(name) => {
                let stay = by_name(learn, name, use_it);
                (Stay { strict, ..stay }, Some(ring::hash(name)))
            }
            None => (Stay::found(Sticky::New), by_balance()),
        },
        By::Hash(key) => match hash_key::of(key, request) {
            Some(hash) => (Stay::default(), Some(hash)),
            None => (Stay::default(), by_balance()),
        },
    }
}

/// Whether the upstream has the session of this request.
pub(super) fn is_at_home(upstream: &UpstreamPlan, request: &RouteInput<'_>) -> bool {
    upstream.sticky.as_ref().is_some_and(|sticky| {
        sticky.remembers() && recognise(upstream, sticky, request, false).0.home().is_some()
    })
}

/// The first cookie that says something, or what is wrong with the last.
fn by_cookie(plan: &CookiePlan, head: &HeadBuf) -> Stay {
    let mut stay = Stay::found(Sticky::New);
    let mut now = None;
    for value in cookie_values(head, plan.name.as_bytes()).take(MOST_COOKIES) {
        match plan.read(value, *now.get_or_insert_with(unix_now)) {
            Ok(held) => {
                return Stay {
                    stale: held.stale,
                    ..Stay::at(held.endpoint)
                };
            }
            Err(why) => {
                stay = Stay::found(match why {
                    Unfit::Malformed => Sticky::Malformed,
                    Unfit::Foreign => Sticky::Foreign,
                    Unfit::Tampered => Sticky::Tampered,
                    Unfit::Expired => Sticky::Expired,
                });
            }
        }
    }
    stay
}

fn by_name(learn: &LearnPlan, name: &[u8], use_it: bool) -> Stay {
    let session = learn.sessions.named(name);
    let stay = match learn.find(session, Millis::now(), use_it) {
        Some(home) => Stay::at(home),
        None => Stay::found(Sticky::Unknown),
    };
    Stay {
        session: Some(session),
        ..stay
    }
}

/// The application's name for a request's session. The first counts.
fn named<'a>(name: &'a SessionName, head: &'a RequestHead) -> Option<&'a [u8]> {
    let found = match name {
        SessionName::Cookie(name) => cookie_values(&head.buf, name.as_bytes()).next(),
        SessionName::Header(name) => head.buf.find(name.as_bytes()).next(),
    };
    found.filter(|name| !name.is_empty())
}

/// A request whose session is refused another endpoint than its own.
pub(super) fn refused(stay: &Stay) -> ProxyError {
    ProxyError {
        detail: Some(match stay.lost {
            Some(Missing::Gone) => "the session's endpoint is gone",
            Some(Missing::Unwell) => "the session's endpoint is not well",
            Some(Missing::Full) => "the session's endpoint is at its max_connections",
            None => "the session's endpoint failed",
        }),
        ..ProxyError::new(Token::StickyMissing, Side::Gateway)
    }
}

/// Takes our cookie out of a request: it is none of the endpoint's business.
pub(super) fn conceal(upstream: &UpstreamPlan, head: &RequestHead, edits: &mut Edits) {
    if let Some(sticky) = &upstream.sticky
        && let By::Cookie(cookie) = &sticky.by
    {
        cookies::take_out(&head.buf, cookie.name.as_bytes(), edits);
    }
}

/// Leaves out the cookies of our name that an endpoint sets: it would take the client's place from it.
pub(super) fn drop_namesakes(sticky: &StickyPlan, response: &ResponseHead, edits: &mut Edits) {
    let buf = &response.buf;
    let By::Cookie(cookie) = &sticky.by else { return };
    if !buf.has(Name::SetCookie) {
        return;
    }
    for field in 0..buf.fields.len() {
        if buf.fields[field].id == Name::SetCookie && cookie.is_named_by(buf.value(field)) {
            edits.drop_index(field);
        }
    }
}

/// The final answer of an endpoint: tells the client where its session is, or learns what the application calls it.
pub(super) fn answered(
    context: &RequestContext,
    sticky: &StickyPlan,
    response: &ResponseHead,
    edits: &mut Edits,
) {
    let Some(index) = context.attempts.last().map(|attempt| attempt.index) else {
        return;
    };
    match &sticky.by {
        By::Cookie(cookie) => tell(context, cookie, index, response, edits),
        By::Learn(plan) => learn(context, plan, index, response),
        By::Hash(_) => {}
    }
}

fn tell(
    context: &RequestContext,
    cookie: &CookiePlan,
    index: usize,
    response: &ResponseHead,
    edits: &mut Edits,
) {
    let stay = &context.stay;
    let why = match stay.home() {
        Some(home) if home == index => {
            if !stay.stale {
                return;
            }
            CookieSet::Renewed
        }
        Some(_) => CookieSet::Moved,
        None if stay.lost.is_some() => CookieSet::Moved,
        None if stay.found == Some(Sticky::New) => CookieSet::New,
        None => CookieSet::Replaced,
    };
    if let Some(series) = &context.series {
        series.cookies_set.inc(why);
    }
    let secure = context
        .head()
        .is_ok_and(|head| came_by_https(context.who.scheme, context.trusted, head));
    edits.add_with(b"Set-Cookie", |out| cookie.write(index, secure, unix_now(), out));
    if cookie.private && may_be_shared(context, response) {
        edits.add(b"Cache-Control", b"private");
    }
}

/// Whether a shared cache may keep the answer: it is one to a request that caches answer, and says nothing against it
/// itself (RFC 9111 section 3).
fn may_be_shared(context: &RequestContext, response: &ResponseHead) -> bool {
    let asked = context.request.as_ref().map(|head| head.method);
    let forbidden = |directive: &[u8]| {
        [&b"private"[..], b"no-store"]
            .iter()
            .any(|word| directive.eq_ignore_ascii_case(word))
    };
    matches!(asked, Some(Method::Get | Method::Head))
        && response.status != 101
        && !response
            .buf
            .find(b"cache-control")
            .flat_map(|field| field.split(|b| *b == b','))
            .any(|directive| forbidden(directive.trim_ascii()))
}

fn learn(context: &RequestContext, plan: &LearnPlan, index: usize, response: &ResponseHead) {
    let Some(upstream) = &context.upstream else { return };
    let endpoint = &upstream.plan.endpoints[index];
    let now = Millis::now();
    let mut learned = 0;
    let mut remember = |name: &[u8]| {
        if !name.is_empty() && learned < MOST_LEARNED {
            learned += 1;
            plan.learn(plan.sessions.named(name), endpoint, now);
        }
    };
    match &plan.name {
        SessionName::Cookie(name) => response
            .buf
            .all(Name::SetCookie)
            .filter_map(cookies::given)
            .filter(|(given, _)| *given == name.as_bytes())
            .for_each(|(_, value)| remember(value)),
        SessionName::Header(name) => response.buf.find(name.as_bytes()).for_each(remember),
    }
    // Who goes on under the name that it had is where it was answered; a refusal speaks for no place.
    let stay = &context.stay;
    if let Some(session) = stay.session
        && learned == 0
        && stay.home() != Some(index)
        && response.status < 400
    {
        plan.learn(session, endpoint, now);
    }
}
