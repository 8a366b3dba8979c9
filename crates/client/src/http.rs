//! One HTTP request on a connection of its own: the negotiation, or the switch to WebSockets.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::Bytes;
use futures_util::future::{Either, select};
use hubcast_tls::Stream;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::StartError;
use crate::url::HubUrl;

/// The most bytes of an answer's body. Negotiations have a few hundred.
const MAX_BODY: usize = 64 * 1024;

/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// An answer. Its body is there if the status is 200, and the connection itself if it is 101.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) upgraded: Option<Upgraded>,
}

/// Sends a request without a body, and reads the answer.
pub(crate) async fn request(
    method: Method,
    url: &HubUrl,
    target: &str,
    headers: HeaderMap,
) -> Result<Answer, StartError> {
    let address = || url.authority.clone();
    let no_http = |error: hyper::Error| StartError::Http {
        address: address(),
        reason: error.to_string(),
    };
    let unreachable = |source| StartError::Unreachable {
        address: address(),
        source,
    };
    let request = build(method, url, target, headers).ok_or(StartError::Http {
        address: address(),
        reason: String::from("the URL cannot be asked for"),
    })?;
    let socket = TcpStream::connect((url.host.as_str(), url.port)).await;
    let socket = socket.map_err(unreachable)?;
    // Messages are small and must leave at once.
    socket.set_nodelay(true).map_err(unreachable)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let stream: Box<dyn Stream> = if url.tls {
        let encrypted = hubcast_tls::connect_for_http(socket, &url.host).await;
        Box::new(encrypted.map_err(|source| StartError::Tls {
            address: address(),
            source,
        })?)
    } else {
        Box::new(socket)
    };
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(no_http)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(no_http)?;
        read(response, url).await
    };
    // The connection moves the bytes of the exchange, and may be done before it.
    match select(pin!(exchange), pin!(connection.with_upgrades())).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}

fn build(
    method: Method,
    url: &HubUrl,
    target: &str,
    headers: HeaderMap,
) -> Option<Request<String>> {
    let is_post = method == Method::POST;
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(String::new())
        .ok()?;
    *request.headers_mut() = headers;
    if is_post {
        // Without it, servers may answer 411, as Kestrel does.
        let none = HeaderValue::from_static("0");
        request.headers_mut().insert(CONTENT_LENGTH, none);
    }
    let host = HeaderValue::from_str(&url.authority).ok()?;
    request.headers_mut().entry(HOST).or_insert(host);
    Some(request)
}

async fn read(mut response: Response<Incoming>, url: &HubUrl) -> Result<Answer, StartError> {
    let no_http = |reason: String| StartError::Http {
        address: url.authority.clone(),
        reason,
    };
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let (mut body, mut upgraded) = (Vec::new(), None);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let connection = hyper::upgrade::on(response).await;
        upgraded = Some(connection.map_err(|error| no_http(error.to_string()))?);
    } else if status == StatusCode::OK {
        let mut incoming = response.into_body();
        while let Some(piece) = next(&mut incoming).await {
            let piece = piece.map_err(|error| no_http(error.to_string()))?;
            if body.len() + piece.len() > MAX_BODY {
                return Err(no_http(format!(
                    "its answer has more than {MAX_BODY} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
        upgraded,
    })
}

/// The next bytes of a body; trailers are none.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}
