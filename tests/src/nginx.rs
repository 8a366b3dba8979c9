//! A real nginx with the very configuration that `docker-compose.yml` gives it, on free ports, and with TLS where a test wants it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::authority::Identity;
use crate::hubcast::{Hubcast, workspace};
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::{DEADLINE, until};

/// How often starting is tried anew when somebody else took the port first.
const ATTEMPTS: usize = 5;

/// Where the world is kept from the task centre.
const TASK_CENTRE: &str = "location ~* ^/(tasks|push|taskhub)(/|$) {";

/// A balancer in front of two servers. Dropping it kills it.
pub struct Nginx {
    process: Process,
    port: u16,
    /// Holds its configuration and its temporary files.
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx in front of these servers, and returns once it accepts connections.
    pub async fn in_front_of(servers: &[&Hubcast; 2]) -> Self {
        Self::start(servers, None).await
    }

    /// The same for one server, and with TLS: nginx shows this certificate, and leads to the task centre, too.
    pub async fn with_tls(server: &Hubcast, identity: &Identity) -> Self {
        Self::start(&[server, server], Some(identity)).await
    }

    async fn start(servers: &[&Hubcast; 2], identity: Option<&Identity>) -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(nginx) = Self::try_start(servers, identity, free_port()).await {
                return nginx;
            }
        }
        panic!("nginx did not start on any of {ATTEMPTS} ports");
    }

    async fn try_start(
        servers: &[&Hubcast; 2],
        identity: Option<&Identity>,
        port: u16,
    ) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let deployed =
            fs::read_to_string(workspace().join("deploy/nginx.conf")).expect("deploy/nginx.conf");
        let listen = match identity {
            None => format!("listen 127.0.0.1:{port};"),
            Some(Identity { certificate, key }) => format!(
                "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};",
                certificate.display(),
                key.display()
            ),
        };
        let mut site = replace_once(&deployed, "listen 8080;", &listen);
        for (name, server) in ["hubcast-1:8080", "hubcast-2:8080"]
            .into_iter()
            .zip(servers)
        {
            site = replace_once(&site, name, server.authority());
        }
        if identity.is_some() {
            site = replace_once(&site, TASK_CENTRE, "location = /nowhere {");
        }
        let main = write(folder.path(), "nginx.conf", &surroundings(folder.path()));
        write(folder.path(), "site.conf", &site);

        let mut command = Command::new(program());
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(main)
            .args(["-e", "stderr"]);
        let mut process = Process::start("nginx", command);
        let (started, _) = until(
            DEADLINE,
            format_args!("nginx listens on {port}"),
            async || {
                if process.has_ended() {
                    return Ok(false);
                }
                TcpStream::connect(("127.0.0.1", port))
                    .await
                    .map(|_| true)
                    .map_err(|error| error.to_string())
            },
        )
        .await;
        started.then_some(Self {
            process,
            port,
            _folder: folder,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// What nginx' own image has around the files in `conf.d`, reduced to what must differ for a process that may be anybody's:
/// one process in the foreground, which ends when it is killed, and no file outside its folder.
fn surroundings(folder: &Path) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{\n    access_log off;\n{temporary}    include {folder}/site.conf;\n}}\n",
        folder = folder.display()
    )
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).expect("a temporary file can be written");
    path
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "deploy/nginx.conf has exactly one {from:?}"
    );
    text.replace(from, to)
}

/// Debian has nginx where the path of an ordinary user does not look.
fn program() -> PathBuf {
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut found = folders
        .into_iter()
        .map(|folder| folder.join("nginx"))
        .filter(|path| path.is_file());
    found
        .next()
        .expect("nginx is installed (Debian: apt-get install nginx)")
}
