//! Accepting connections, and ending in good order.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower::ServiceExt;

/// How long a client may take to send the head of a request. Bounds what a socket that says nothing costs.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How many bytes the head of a request may have: room for 32 KiB of headers, and for what is read behind them.
const MAX_HEAD: usize = 64 * 1024;

/// How long accepting rests when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`; what is being answered then may finish, which the returned future waits for.
///
/// `rewrite` sees every request before the router does.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    rewrite: fn(Request) -> Request,
    stop: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let (builder, app) = (builder.clone(), app.clone());
                let watcher = graceful.watcher();
                tokio::spawn(async move {
                    // Messages are small and must leave at once.
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, "a connection went away before it was served");
                        return;
                    }
                    // The time for the head of a request runs only from its first byte on.
                    let first = timeout(HEAD_TIMEOUT, socket.peek(&mut [0])).await;
                    if !matches!(first, Ok(Ok(1))) {
                        return;
                    }
                    let service = service_fn(|request: axum::http::Request<Incoming>| {
                        app.clone().oneshot(rewrite(request.map(Body::new)))
                    });
                    let served =
                        builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
                    if let Err(error) = watcher.watch(served).await {
                        tracing::debug!(%error, "a connection did not speak HTTP to its end");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown()
}
