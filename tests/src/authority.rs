//! An authority that nobody knows, which gives certificates to the servers of a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// An authority. Whoever is to trust it is given its [`file`](Self::file) in `SSL_CERT_FILE`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Has its certificate, and those that it has issued.
    folder: TempDir,
}

/// The files, as PEM, of a server that somebody vouches for.
pub struct Identity {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The secret that belongs to it.
    pub key: PathBuf,
}

impl Authority {
    /// An authority with this name, and with a secret of its own.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = TempDir::new().expect("a temporary folder");
        write(folder.path(), "authority.pem", &issuer.pem());
        Self { issuer, folder }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Vouches for a server with these names or addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_between((2000, 3000), names)
    }

    /// The same from the beginning of a year to that of another.
    pub fn issue_between(&self, (first, last): (i32, i32), names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let title = format!("{first}-{last}-{}", names.join("-").replace(':', "_"));
        let mut params = CertificateParams::new(names).expect("names of servers");
        params.not_before = date_time_ymd(first, 1, 1);
        params.not_after = date_time_ymd(last, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let folder = self.folder.path();
        Identity {
            certificate: write(folder, &format!("{title}.pem"), &certificate.pem()),
            key: write(folder, &format!("{title}.key"), &key.serialize_pem()),
        }
    }

    /// Itself, as if it were a server.
    pub fn itself(&self) -> Identity {
        let key = self.issuer.key().serialize_pem();
        Identity {
            certificate: self.file(),
            key: write(self.folder.path(), "authority.key", &key),
        }
    }
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).expect("a temporary file can be written");
    path
}
