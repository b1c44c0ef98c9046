//! Debian's rsyslog as a sender: a file and a port in, our listener out.

use crate::missing::missing;
use crate::run::{Site, free_port, record, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Rsyslog(Child);

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads `audit.log` and `legacy`, a port with old messages, and sends to `telltale`. The action is
/// that of docs/guides/send-logs.md, with a short wait between two tries.
fn start(folder: &Path, telltale: u16, legacy: u16) -> Option<Rsyslog> {
    let at = folder.display();
    let template = r#"template(name="telltale" type="string" string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% %APP-NAME% %PROCID% %MSGID% - %msg%")"#;
    let forward = |template: &str, framing: &str| {
        format!(
            r#"action(type="omfwd" target="127.0.0.1" port="{telltale}" protocol="tcp" template="{template}" tcp_framing="{framing}" action.resumeRetryCount="-1" action.resumeInterval="1" queue.type="linkedList" queue.size="100000")"#
        )
    };
    let settings = format!(
        r#"global(workDirectory="{at}" maxMessageSize="1m")
module(load="imfile")
module(load="imtcp")
{template}
ruleset(name="file") {{ {} }}
ruleset(name="old") {{ {} }}
input(type="imfile" file="{at}/audit.log" tag="aws" ruleset="file")
input(type="imtcp" address="127.0.0.1" port="{legacy}" ruleset="old")
"#,
        forward("telltale", "octet-counted"),
        forward("RSYSLOG_ForwardFormat", "traditional"),
    );
    let (conf, pid) = (folder.join("rsyslog.conf"), folder.join("rsyslog.pid"));
    std::fs::write(&conf, settings).expect("it is written");
    let log = std::fs::File::create(folder.join("said")).expect("it is made");
    let child = ["/usr/sbin/rsyslogd", "rsyslogd"].into_iter().find_map(|program| {
        let mut command = Command::new(program);
        command.arg("-n").arg("-f").arg(&conf).arg("-i").arg(&pid).stdout(Stdio::null());
        command.stderr(log.try_clone().expect("a file")).spawn().ok()
    });
    child.map(Rsyslog)
}

fn connect(port: u16) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(cause) => assert!(Instant::now() < until, "rsyslog does not listen: {cause}"),
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn rsyslog_sends_files_and_old_messages_and_waits_while_we_are_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, legacy) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let site = Site::new(&["--syslog", &listen]);
    let service = site.start();
    let Some(_rsyslog) = start(folder.path(), port, legacy) else {
        return missing("rsyslog");
    };
    let path = folder.path().join("audit.log");
    let mut log = std::fs::File::create(&path).expect("it is made");
    let long = record(1).replace("aws-cli/2.15", &"x".repeat(100_000));
    writeln!(log, "{}\n{long}\nno event at all", record(0)).expect("it is written");
    let mut old = connect(legacy);
    writeln!(old, "<13>Mar  1 00:00:00 web-1 aws[12]: {}", record(2)).expect("it is sent");
    writeln!(old, "<13>Mar  1 00:00:00 web-1 aws: @cee: {}", record(3)).expect("it is sent");
    site.wait_until_stored(4);
    service.stop();
    // What comes while nobody listens waits with rsyslog, which looks whether the connection was
    // closed before it sends.
    for number in 10..20 {
        writeln!(log, "{}", record(number)).expect("it is written");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let service = site.start();
    let said = || std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
    wait_until("everything there", || service.stored() >= 10, || said() + &site.said());
    service.stop();
    let held = site.held();
    assert_eq!(held.len(), 4 + 10);
    assert!(held.values().all(|count| *count == 1), "{held:?}");
    let letters = site.query("SELECT text, reason FROM dead_letters");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["text"], "no event at all");
    assert_eq!(site.status()["residue"], 0);
}
