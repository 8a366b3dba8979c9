//! The chat page: from a folder, or built into the program.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use rust_embed::{Embed, EmbeddedFile};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

/// The page as it was when the program was built.
#[derive(Embed)]
#[folder = "../../web"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[exclude = "node_modules/*"]
struct BuiltIn;

/// Where the stock client lies in a folder that `npm ci` has been run in.
const CLIENT: &str = "node_modules/@microsoft/signalr/dist/browser";

/// The page loads scripts from here and, where the stock client is not installed, from one CDN by its hash.
const POLICY: &str = "default-src 'self'; script-src 'self' https://cdn.jsdelivr.net/npm/@microsoft/; connect-src 'self'; \
                      style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Where the page comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Folder(PathBuf),
    BuiltIn,
}

impl Source {
    /// The folder that was asked for; else `web` here, if there is a page in it; else what is built in.
    pub(crate) fn choose(asked: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(folder) = asked {
            let index = folder.join("index.html");
            ensure!(
                index.is_file(),
                "there is no page to serve: {} does not exist; give --web a folder that has an index.html",
                index.display()
            );
            let folder = folder.canonicalize();
            return Ok(Self::Folder(folder.context("the folder of --web")?));
        }
        let here = Path::new("web");
        if here.join("index.html").is_file() {
            return Ok(Self::Folder(here.to_owned()));
        }
        Ok(Self::BuiltIn)
    }

    /// The page at `/`, and the stock client at `/lib/`.
    pub(crate) fn routes(&self) -> Router {
        let router = match self {
            Self::Folder(folder) => Router::new()
                .nest_service("/lib", files(&folder.join(CLIENT)))
                .fallback_service(files(folder)),
            Self::BuiltIn => Router::new().fallback(built_in),
        };
        let set = |name: HeaderName, value: &'static str| {
            SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
        };
        router
            .layer(from_fn(only_pages))
            .layer(set(header::CONTENT_SECURITY_POLICY, POLICY))
            .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .layer(set(header::REFERRER_POLICY, "no-referrer"))
            // Asked about each time, so that a new version of the page is seen at once.
            .layer(set(header::CACHE_CONTROL, "no-cache"))
    }
}

/// What npm needs and installs lies in the folder, but is no part of the page. Paths that are written in a roundabout
/// way, which could lead there after all, lead nowhere.
async fn only_pages(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let hidden = ["/node_modules", "/package"]
        .iter()
        .any(|hidden| path.starts_with(hidden));
    let roundabout = ["%", "//", "/.", "\\"].iter().any(|odd| path.contains(odd));
    if hidden || roundabout {
        return StatusCode::NOT_FOUND.into_response();
    }
    next.run(request).await
}

/// Whatever is not there is not found, with every method.
fn files(folder: &Path) -> ServeDir<MethodRouter> {
    ServeDir::new(folder)
        .call_fallback_on_method_not_allowed(true)
        .fallback(any(StatusCode::NOT_FOUND))
}

async fn built_in(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let path = match request.uri().path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match BuiltIn::get(path) {
        Some(EmbeddedFile { data, .. }) => {
            ([(header::CONTENT_TYPE, content_type(path))], data).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
