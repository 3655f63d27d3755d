//! Messages under another name of the site: [`crate::rewrite`] applied to heads and to bodies on their way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BodyError};
use crate::rewrite::{self, Rewriter};

/// A request on its way to the source. `back` turns the reader's origin into the site's own.
pub(crate) fn request(back: &Rewriter, request: Request<Body>) -> Request<Body> {
    let (mut parts, mut payload) = request.into_parts();
    back.request_fields(&mut parts.headers);
    // The answer must be legible to be rewritten.
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if !payload.is_end_stream() && rewrite::applies_to(&parts.headers) {
        parts.headers.remove(header::CONTENT_LENGTH);
        payload = body(back, payload);
    }
    Request::from_parts(parts, payload)
}

/// An answer on its way to the reader.
pub(crate) fn response(rewriter: &Rewriter, response: Response<Body>) -> Response<Body> {
    let (mut parts, mut payload) = response.into_parts();
    let applies = rewrite::applies_to(&parts.headers);
    rewriter.response_fields(&mut parts.headers, applies);
    if applies && !payload.is_end_stream() {
        payload = body(rewriter, payload);
    }
    Response::from_parts(parts, payload)
}

/// A body rewritten as it comes.
pub(crate) fn body(rewriter: &Rewriter, body: Body) -> Body {
    Body::stream(Rewritten { body, stream: Some(rewriter.stream()), trailers: None })
}

struct Rewritten {
    body: Body,
    /// `None` once the text has ended.
    stream: Option<rewrite::Stream>,
    trailers: Option<Frame<Bytes>>,
}

impl HttpBody for Rewritten {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Self { body, stream, trailers } = &mut *self;
            let Some(text) = stream else { return Poll::Ready(trailers.take().map(Ok)) };
            let data = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame.into_data().map_err(Some),
                None => Err(None),
            };
            let out = match data {
                Ok(data) => text.push(&data),
                Err(end) => {
                    *trailers = end;
                    stream.take().map_or_else(Bytes::new, rewrite::Stream::finish)
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.trailers.is_none()
    }
}

/// The path a `Location` leads to, whatever origin it names.
pub(crate) fn path_of(location: &str) -> &str {
    let path = if location.starts_with('/') {
        location
    } else {
        let authority = location.split_once("://").map_or(location, |(_, rest)| rest);
        authority.find('/').map_or("/", |at| &authority[at..])
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn the_path_of_a_location() {
        assert_eq!(path_of("/private/?r=%2F"), "/private/");
        assert_eq!(path_of("https://blog.example.org:8443/private/?r=https://x/"), "/private/");
        assert_eq!(path_of("https://blog.example.org"), "/");
        assert_eq!(path_of("/a/?u=https://x/private/"), "/a/");
    }
}
