//! Plain HTTP on a port of its own: readers who typed a name without a scheme are pointed to HTTPS.
//!
//! Nothing of a site is ever served here, nothing is asked of a source, and who is not asking for a name of ours gets
//! the same refusal as over TLS.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONNECTION, HeaderValue, LOCATION};
use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use sovereign_model::Origin;
use sovereign_runtime::lifecycle::accept_each;
use tokio::net::TcpListener;

use crate::body::Body;
use crate::counters::Counted;
use crate::edge::Edge;
use crate::pages;
use crate::route::{Asked, Decision};
use crate::serve::{prepare, serve_http1};

/// How long a browser goes straight to HTTPS without asking here: a day, since a port may be another one tomorrow.
const REMEMBER: HeaderValue = HeaderValue::from_static("max-age=86400");

/// Points readers on `listener` to HTTPS until the edge is told to stop.
pub(crate) async fn accept(listener: TcpListener, edge: Arc<Edge>) {
    let stopping = edge.lifecycle().stopping();
    prepare(&listener);
    accept_each(&listener, stopping.clone(), |(socket, reader)| {
        let Some(entry) = edge.door.enter(&edge, reader.ip()) else { return };
        let (edge, stopping) = (edge.clone(), stopping.clone());
        edge.clone().lifecycle().spawn(async move {
            let socket = Counted::new(socket, edge.counters.clone());
            let limits = edge.generation().config.rules.limits.clone();
            let service = service_fn(move |request| {
                let response = point(&edge, &request, reader.ip());
                async move { Ok::<_, Infallible>(response) }
            });
            serve_http1(socket, service, &limits, stopping).await;
            drop(entry);
        });
    })
    .await;
}

fn point<B>(edge: &Edge, request: &Request<B>, reader: std::net::IpAddr) -> Response<Body> {
    let generation = edge.generation();
    let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers(), reader };
    let mut response = match generation.routes.resolve(&asked) {
        Decision::Site(route) => {
            let origin = Origin::https(route.origin.host().clone(), generation.config.https_port);
            let place = HeaderValue::try_from(format!("{origin}{}", route.target.as_str()));
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, place.expect("names and targets are visible ASCII"));
            response.headers_mut().insert(CACHE_CONTROL, REMEMBER);
            pages::own(response)
        }
        Decision::Refused(refusal) => pages::refused(refusal),
        Decision::Health => pages::health(),
        Decision::Hook(_) => pages::text(StatusCode::FORBIDDEN, "Webhooks are taken over HTTPS only."),
    };
    // One question is all that is ever asked here.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
