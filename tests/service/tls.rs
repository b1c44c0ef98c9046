//! TLS of what listens: who shows the right certificate is heard, everybody else is not.

use crate::run::{Site, free_port, record, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// Who signs.
struct Authority {
    cert: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
struct Pair {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self { cert, issuer: Issuer::new(params, key) }
    }

    fn signs(&self, name: &str) -> Pair {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        Pair { cert: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    /// A client that trusts it and shows a certificate, if any.
    fn client(&self, shown: Option<&Pair>, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(roots);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.key.serialize_der()).expect("a key");
                config.with_client_auth_cert(vec![pair.cert.der().clone()], key).expect("a pair")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A site whose sources speak TLS, and ask for a certificate where `client_ca` says of whom.
struct Secured {
    site: Site,
    syslog: u16,
    http: u16,
    grpc: u16,
    folder: tempfile::TempDir,
}

fn secured(server: &Pair, client_ca: Option<&Authority>) -> Secured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    };
    let cert = write("cert.pem", server.cert.pem());
    let key = write("key.pem", server.key.serialize_pem());
    let client_ca = client_ca
        .map(|ca| format!("tls_client_ca_file = {:?}\n", write("ca.pem", ca.cert.pem())))
        .unwrap_or_default();
    let [syslog, http, grpc] = std::array::from_fn(|_| free_port());
    let source = |kind: &str, port: u16| {
        format!(
            "[[source]]\nkind = \"{kind}\"\nlisten = \"127.0.0.1:{port}\"\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}\n{client_ca}"
        )
    };
    // The first one over HTTP is that of the flag `--http`, which is asked whether it is ready.
    let plain = "[[source]]\nkind = \"http\"\n".to_owned();
    let tables = [plain, source("http", http), source("syslog", syslog), source("otlp_grpc", grpc)];
    Secured { site: Site::new(&[]).configured(&tables.concat()), syslog, http, grpc, folder }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose handshake is not made yet.
fn connect(port: u16, client: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(client), name).expect("a client");
    StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).expect("it listens"))
}

/// Whether the server closes without having said a word, for whatever reason.
fn is_refused(stream: &mut Stream, bytes: &[u8]) -> bool {
    let sent = stream.write_all(bytes).and_then(|()| stream.flush());
    sent.is_err() || stream.read(&mut [0; 1]).is_err()
}

/// Status, or `None` when nobody answers.
fn post(port: u16, authority: &Authority, shown: Option<&Pair>, body: &str) -> Option<u16> {
    use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
    let root = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
    let client = shown.map(|pair| {
        let key = PrivateKey::from_pem(pair.key.serialize_pem().as_bytes()).expect("a key");
        ClientCert::new_with_certs(&[root(pair.cert.der())], key)
    });
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[root(authority.cert.der())]))
        .client_cert(client)
        .build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = format!("https://localhost:{port}/v1/logs/aws_cloudtrail");
    agent.post(url).send(body).ok().map(|answer| answer.status().as_u16())
}

#[test]
fn over_tls_everybody_is_heard_who_speaks_it() {
    let authority = Authority::new();
    let secured = secured(&authority.signs("localhost"), None);
    let service = secured.site.start();
    let client = authority.client(None, &[]);
    let mut syslog = connect(secured.syslog, &client);
    write!(syslog, "<13>1 - - - - - - {}\n<13>{}\n", record(0), record(1)).expect("it is sent");
    assert_eq!(post(secured.http, &authority, None, &record(2)), Some(200));
    // What it refuses is sent again by whoever trusts the same roots.
    assert_eq!(post(secured.http, &authority, None, "{\"a\":1}"), Some(200));
    let (data, roots) = (secured.site.data(), secured.folder.path().join("roots.pem"));
    std::fs::write(&roots, authority.cert.pem()).expect("it is written");
    let retry = |more: &[&str]| {
        let to = format!("https://localhost:{}", secured.http);
        let mut command = secured.site.command(&["dead-letters", "retry", "--to", &to, "--data"]);
        command.arg(&data).args(more).output().expect("the binary runs")
    };
    let refused = retry(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 were not sent"), "{refused:?}");
    let sent = retry(&["--ca-file", roots.to_str().expect("a path of text")]);
    assert!(String::from_utf8_lossy(&sent.stdout).contains("1 sent, 0 stored"), "{sent:?}");
    // gRPC is HTTP/2, which it offers and speaks: its first frame is one of settings.
    let mut grpc = connect(secured.grpc, &authority.client(None, &["h2"]));
    grpc.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it is sent");
    let mut frame = [0; 9];
    grpc.read_exact(&mut frame).expect("it answers");
    assert_eq!((grpc.conn.alpn_protocol(), frame[3]), (Some(&b"h2"[..]), 4));
    // Whoever speaks no TLS is closed, and is no reason to warn.
    for port in [secured.syslog, secured.http, secured.grpc] {
        for text in ["<13>plain\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            plain.write_all(text.as_bytes()).expect("it is sent");
            let mut answer = Vec::new();
            let _ = plain.read_to_end(&mut answer);
            assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        }
    }
    secured.site.wait_until_stored(3);
    drop((syslog, grpc));
    service.stop();
    assert_eq!(secured.site.held().values().copied().collect::<Vec<_>>(), [1; 3]);
    let letters = secured.site.query("SELECT text FROM dead_letters");
    assert_eq!(letters.iter().map(|l| &l["text"]).collect::<Vec<_>>(), ["{\"a\":1}"; 2]);
    let said = secured.site.said();
    let ours = |line: &&str| line.contains("WARN telltale") || line.contains("ERROR telltale");
    assert_eq!(said.lines().find(ours), None, "{said}");
}

#[test]
fn a_renewed_certificate_counts_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let secured = secured(&first.signs("localhost"), None);
    let service = secured.site.start();
    // A connection that is open stays.
    let mut syslog = connect(secured.syslog, &first.client(None, &[]));
    writeln!(syslog, "<13>{}", record(0)).expect("it is sent");
    assert_eq!(post(secured.http, &second, None, &record(1)), None);
    let pair = second.signs("localhost");
    let write = |name: &str, text: String| {
        std::fs::write(secured.folder.path().join(name), text).expect("it is written");
    };
    write("cert.pem", pair.cert.pem());
    write("key.pem", pair.key.serialize_pem());
    service.hang_up();
    let is_renewed = || post(secured.http, &second, None, &record(1)) == Some(200);
    wait_until("renewed", is_renewed, || secured.site.said());
    assert_eq!(post(secured.http, &first, None, &record(2)), None);
    writeln!(syslog, "<13>{}", record(2)).expect("it is sent");
    secured.site.wait_until_stored(3);
    service.stop();
}

#[test]
fn over_mutual_tls_only_who_shows_the_right_certificate_is_heard() {
    let authority = Authority::new();
    let secured = secured(&authority.signs("localhost"), Some(&authority));
    let service = secured.site.start();
    let (known, stranger) = (authority.signs("sender"), Authority::new().signs("sender"));
    for shown in [None, Some(&stranger)] {
        let client = authority.client(shown, &[]);
        let line = format!("<13>{}\n", record(0));
        assert!(is_refused(&mut connect(secured.syslog, &client), line.as_bytes()));
        assert_eq!(post(secured.http, &authority, shown, &record(0)), None);
        let grpc = authority.client(shown, &["h2"]);
        assert!(is_refused(&mut connect(secured.grpc, &grpc), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    }
    let mut syslog = connect(secured.syslog, &authority.client(Some(&known), &[]));
    writeln!(syslog, "<13>{}", record(1)).expect("it is sent");
    assert_eq!(post(secured.http, &authority, Some(&known), &record(2)), Some(200));
    secured.site.wait_until_stored(2);
    service.stop();
    let rows = secured.site.query("SELECT DISTINCT source_ip FROM events");
    assert_eq!((secured.site.held().len(), rows.len()), (2, 1));
}

#[test]
fn a_mistake_with_certificates_is_said_before_anything_starts() {
    let said = |table: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path: &Path = &folder.path().join("telltale.toml");
        std::fs::write(path, format!("[[source]]\n{table}")).expect("it is written");
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_telltale"));
        let output = check.args(["check", "--config"]).arg(path).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let half = said("kind = \"http\"\ntls_cert_file = \"cert.pem\"\n");
    assert!(half.contains("`tls_cert_file` and `tls_key_file` need each other"), "{half}");
    let alone = said("kind = \"syslog\"\ntls_client_ca_file = \"ca.pem\"\n");
    assert!(alone.contains("needs `tls_cert_file`"), "{alone}");
    let both = "tls_cert_file = \"/no/cert.pem\"\ntls_key_file = \"/no/key.pem\"\n";
    let missing = said(&format!("kind = \"otlp_grpc\"\n{both}"));
    assert!(missing.contains("`/no/cert.pem` cannot be read"), "{missing}");
    let parser = said("kind = \"syslog\"\nparsers = { vault = \"hashicorp_vault_audi\" }\n");
    assert!(parser.contains("did you mean `hashicorp_vault_audit`"), "{parser}");
    let long = said("kind = \"syslog\"\nmessage_bytes = 99999999\n");
    assert!(long.contains("is not between 1 and `record_bytes`"), "{long}");
}
