//! Against servers that show all kinds of certificates, or none.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::sync::Arc;

use end_to_end::Authority;
use end_to_end::authority::Identity;
use end_to_end::wait::{DEADLINE, within};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a client says, and hears again.
const SAID: &[u8] = b"what nobody else can read";

fn trusting(authority: &Authority) -> Configurations {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority.file()).unwrap();
    roots.add(certificate).unwrap();
    Configurations::trusting(roots).unwrap()
}

fn server(identity: &Identity, version: &'static SupportedProtocolVersion) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(&identity.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut configuration = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(configuration))
}

/// A connected socket, and both outcomes of what is done with its two ends.
async fn between<T, U>(
    client: impl AsyncFnOnce(TcpStream) -> T,
    server: impl AsyncFnOnce(TcpStream) -> U,
) -> (T, U) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (ours, theirs) = tokio::join!(connecting, listener.accept());
    let both = async { tokio::join!(client(ours.unwrap()), server(theirs.unwrap().0)) };
    within(DEADLINE, "both ends", both).await
}

/// What becomes of a connection to this host if the server shows this identity.
async fn outcome(
    configuration: &Arc<ClientConfig>,
    identity: &Identity,
    host: &str,
) -> Result<TlsStream<TcpStream>, TlsError> {
    let acceptor = server(identity, &TLS13);
    let client = async |socket| handshake(configuration, socket, host).await;
    between(client, async |socket| acceptor.accept(socket).await)
        .await
        .0
}

#[tokio::test]
async fn what_is_said_is_encrypted_and_both_agree_on_the_version_and_the_protocol() {
    let authority = Authority::named("ours");
    let configurations = trusting(&authority);
    let identity = authority.issue(&["hub.example"]);
    for version in [&TLS12, &TLS13] {
        for (configuration, protocol) in [
            (&configurations.plain, None),
            (&configurations.http, Some(&b"http/1.1"[..])),
        ] {
            let acceptor = server(&identity, version);
            let client = async |socket| {
                let mut stream = handshake(configuration, socket, "hub.example")
                    .await
                    .unwrap();
                stream.write_all(SAID).await.unwrap();
                stream.flush().await.unwrap();
                let mut heard = vec![0; SAID.len()];
                stream.read_exact(&mut heard).await.unwrap();
                let session = stream.get_ref().1;
                assert_eq!(session.alpn_protocol(), protocol);
                assert_eq!(session.protocol_version(), Some(version.version));
                heard
            };
            let server = async |socket| {
                let mut stream = acceptor.accept(socket).await.unwrap();
                let mut heard = vec![0; SAID.len()];
                stream.read_exact(&mut heard).await.unwrap();
                stream.write_all(&heard).await.unwrap();
                stream.flush().await.unwrap();
                stream
            };
            assert_eq!(between(client, server).await.0, SAID);
        }
    }
}

#[tokio::test]
async fn a_host_is_a_name_or_an_address_and_the_certificate_is_for_it() {
    let authority = Authority::named("ours");
    let trusting = trusting(&authority).plain;
    let identity = authority.issue(&["hub.example", "*.rooms.example", "127.0.0.1", "::1"]);
    for host in [
        "hub.example",
        "HUB.example",
        "tea.rooms.example",
        "127.0.0.1",
        "::1",
    ] {
        let outcome = outcome(&trusting, &identity, host).await;
        assert!(outcome.is_ok(), "{host}: {outcome:?}");
    }
    for host in [
        "example",
        "a.hub.example",
        "a.b.rooms.example",
        "127.0.0.2",
        "::2",
    ] {
        let refused = outcome(&trusting, &identity, host).await.unwrap_err();
        assert!(
            matches!(refused, TlsError::OtherHost),
            "{host}: {refused:?}"
        );
    }
    for host in ["", "a b", "[::1]", "hub.example:443"] {
        let refused = outcome(&trusting, &identity, host).await.unwrap_err();
        assert!(matches!(refused, TlsError::Host), "{host}: {refused:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_what_is_wrong_with_it() {
    let authority = Authority::named("ours");
    let trusting = trusting(&authority).http;
    let host = "hub.example";
    let certificate = "its certificate ";
    let unknown = "not issued by an authority that is trusted here";
    for (identity, text) in [
        (Authority::named("another").issue(&[host]), unknown),
        // As after somebody has made an authority anew.
        (Authority::named("ours").issue(&[host]), unknown),
        (authority.issue(&["other.example"]), "is for another host"),
        (
            authority.issue_between((2000, 2001), &[host]),
            "has expired",
        ),
        (
            authority.issue_between((2990, 3000), &[host]),
            "is not valid yet",
        ),
        // What people get who make one certificate for everything.
        (authority.itself(), "is that of an authority"),
    ] {
        let refused = outcome(&trusting, &identity, host).await.unwrap_err();
        let told = refused.to_string();
        assert!(told.starts_with(certificate), "{refused:?}: {told}");
        assert!(told.contains(text), "{refused:?}: {told}");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_from_who_hangs_up() {
    let trusting = trusting(&Authority::named("ours")).http;
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"AMQP\0\0\x09\x01",
    ] {
        let client = async |socket| handshake(&trusting, socket, "hub.example").await;
        let server = async |mut socket: TcpStream| {
            socket.write_all(answer).await.unwrap();
            socket
        };
        let refused = between(client, server).await.0.unwrap_err();
        assert!(
            matches!(refused, TlsError::NoTls),
            "{answer:?}: {refused:?}"
        );
    }
    let client = async |socket| handshake(&trusting, socket, "hub.example").await;
    let refused = between(client, async |socket| drop(socket)).await.0;
    assert!(matches!(refused, Err(TlsError::Lost(_))), "{refused:?}");
}
