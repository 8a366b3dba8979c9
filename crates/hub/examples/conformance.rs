//! A hub with a method for everything that a SignalR client can do, for test suites to be pointed at.
//!
//! ```text
//! cargo run -p hubcast --example conformance -- --listen 127.0.0.1:5000
//! ```
//!
//! `/testHub` has default options, `/testHubDetailed` sends the texts of all errors, `/testHubNoWebSockets` offers
//! Server-Sent Events and Long Polling only, `/testHubReconnect` allows stateful reconnect.

#[path = "conformance/hub.rs"]
mod hub;

use axum::ServiceExt;
use axum::serve::ListenerExt;
use hub::TestHub;
use hubcast::{
    AllowedOrigins, ConnectingRequest, HubEndpoint, HubOptions, Transports, fold_hub_path,
};
use tower::Layer;
use tower::util::MapRequestLayer;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => "127.0.0.1:0".to_owned(),
        (Some("--listen"), Some(address), None) => address,
        _ => {
            eprintln!("usage: conformance [--listen ADDRESS:PORT]");
            std::process::exit(2);
        }
    };
    // Test pages may come from anywhere.
    let options = HubOptions {
        allowed_origins: AllowedOrigins::any(),
        ..HubOptions::default()
    };
    let detailed = HubOptions {
        enable_detailed_errors: true,
        ..options.clone()
    };
    let no_web_sockets = HubOptions {
        transports: Transports {
            web_sockets: false,
            ..Transports::default()
        },
        ..options.clone()
    };
    let reconnect = HubOptions {
        allow_stateful_reconnects: true,
        ..options.clone()
    };
    let endpoint = |options| {
        HubEndpoint::new(TestHub::default())
            .options(options)
            .user_id_provider(|request: &ConnectingRequest| request.query("user"))
            .routes()
    };
    let app = axum::Router::new()
        .nest("/testHub", endpoint(options))
        .nest("/testHubDetailed", endpoint(detailed))
        .nest("/testHubNoWebSockets", endpoint(no_web_sockets))
        .nest("/testHubReconnect", endpoint(reconnect));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let address = listener.local_addr()?;
    // Messages are small and must leave at once.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    #[expect(clippy::print_stdout, reason = "whoever starts this reads the address")]
    {
        println!("conformance listening on http://{address}");
    }
    let fold = MapRequestLayer::new(|request| {
        let hubs = [
            "/testHub",
            "/testHubDetailed",
            "/testHubNoWebSockets",
            "/testHubReconnect",
        ];
        hubs.iter()
            .fold(request, |request, hub| fold_hub_path(hub, request))
    });
    axum::serve(listener, fold.layer(app).into_make_service()).await
}
