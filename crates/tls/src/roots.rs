//! Whom to trust.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::error::TlsError;

/// The same trust, for whoever names a protocol and for whoever does not.
pub(crate) struct Configurations {
    pub(crate) plain: Arc<ClientConfig>,
    pub(crate) http: Arc<ClientConfig>,
}

/// Made once for the whole process. Where nothing was found it is looked for again the next time: a server that waits for its RabbitMQ finds
/// what was installed meanwhile.
pub(crate) async fn configurations() -> Result<&'static Configurations, TlsError> {
    static SHARED: OnceCell<Configurations> = OnceCell::const_new();
    let read = async || {
        // Some hundred small files, on some systems.
        let read = spawn_blocking(system_roots).await;
        // That is not run when the runtime is ending.
        let roots = read.map_err(|error| TlsError::NoRoots(error.to_string()))??;
        Configurations::trusting(roots)
    };
    SHARED.get_or_try_init(read).await
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    Err(TlsError::NoRoots(match found.errors.first() {
        Some(error) => error.to_string(),
        None if unusable > 0 => "what was found is damaged".to_owned(),
        None => "none was found".to_owned(),
    }))
}

impl Configurations {
    pub(crate) fn trusting(roots: RootCertStore) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let versions =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // Cannot be: this provider has cipher suites for both versions.
        let versions = versions.map_err(|error| TlsError::Failed(error.to_string()))?;
        let plain = versions.with_root_certificates(roots).with_no_client_auth();
        let mut http = plain.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            plain: Arc::new(plain),
            http: Arc::new(http),
        })
    }
}
