//! What is replaced stands in `«…»`, all else has to stay byte for byte. `{36}` stands for so many
//! letters and digits that no tool that scans for secrets has to worry about.

use super::{Key, Redactor};
use proptest::prelude::*;

fn redactor() -> Redactor {
    Redactor::new(&Key::from_bytes([7; 32]))
}

fn redact(text: &str) -> String {
    let mut in_place = text.as_bytes().to_vec();
    redactor().redact_in_place(&mut in_place);
    let copy = redactor().redact(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
    let in_place = String::from_utf8(in_place).expect("UTF-8 stays UTF-8");
    let lines = |text: &str| -> Vec<String> {
        text.split('\n').map(|line| line.trim_end_matches(' ').to_owned()).collect()
    };
    let copied = String::from_utf8_lossy(&copy);
    assert_eq!(lines(&in_place), lines(&copied), "both ways give the same: {text}");
    String::from_utf8(copy).expect("UTF-8 stays UTF-8")
}

/// Letters and digits without any pattern, the same for the same length.
fn random(length: usize) -> String {
    let alphabet = b"k7Qm2Zx9RbT4vNcW8sLpY3gHdJ6fAqE5uXiM1oC0Bn";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let letter = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(alphabet[(state >> 33) as usize % alphabet.len()])
    };
    std::iter::repeat_with(letter).take(length).collect()
}

/// Puts random letters in place of `{n}`.
fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        rest = match after.split_once('}').map(|(length, tail)| (length.parse(), tail)) {
            Some((Ok(length), tail)) => {
                out.push_str(&random(length));
                tail
            }
            _ => {
                out.push('{');
                after
            }
        };
    }
    out + rest
}

/// Puts `«»` in place of every fingerprint.
fn hide_fingerprints(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("redacted:") {
        out.push_str(before);
        out.push_str("«»");
        assert!(after.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit), "{after}");
        rest = &after[16..];
    }
    out + rest
}

fn check(cases: &[&str]) {
    for case in cases {
        let marked = expand(case);
        let input = marked.replace(['«', '»'], "");
        let mut expected = String::new();
        let mut pieces = marked.split('«');
        expected.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (secret, after) = piece.split_once('»').expect("every mark is closed");
            expected.push_str("«»");
            expected.extend(secret.matches('\n'));
            expected.push_str(after);
        }
        let output = redact(&input);
        assert_eq!(hide_fingerprints(&output), expected, "{input}");
        assert_eq!(redact(&output), output, "again");
        if serde_json::from_str::<serde_json::Value>(&input).is_ok() {
            serde_json::from_str::<serde_json::Value>(&output).expect("JSON stays JSON");
        }
    }
}

#[test]
fn tokens_show_by_their_shape() {
    check(&[
        "key «eyJ{20}.{30}.{43}» was used",
        "«eyJhbGciOiJkaXIifQ..{16}.{40}.{22}»",
        r#"{"note":"got «eyJ{20}.{30}»."}"#,
        "«hvs.{24}» «hvb.{80}», \"«s.{24}»\"",
        "«ghp_{36}» «gho_{36}» «ghs_{36}» «github_pat_{22}_{59}»",
        "«glpat-{20}»|«npm_{36}»|«xoxb-{12}-{24}»|«ya29.{60}»",
        "url=/maps?q=1&k=«AIza{35}»",
        "«IQoJb3JpZ2lu{100}/{20}+{30}==» «FwoGZXIvYXdz{80}»",
        "«sk_live_{24}» «rk_live_{24}» «sk-ant-api03-{80}» «sk-proj-{40}»",
        "«SG.{22}.{43}» «dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef»",
        "«dapi0123456789abcdef0123456789abcdef» «GOCSPX-{28}» «{3}8Q~{34}»",
        "https://hooks.slack.com/services/«T{8}/B{8}/{24}»",
        "refresh «1//0{60}» https://example.org/1//0{60} 1//0",
        "curl -H 'X: Bearer «{30}»' and Basic «dXNlcjpwYXNzd29yZA==», SSWS «00{40}»",
        "a\\n«ghp_{36}»\\n",
    ]);
}

#[test]
fn base64_shows_by_what_it_stands_for() {
    check(&[
        "env «ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5LmV5SnpkV0lpT2lKM2IzSnJaWEl0TnlJc0ltbGhkQ0k2TVRjMk56VTVOekV5TUgwLmMybG5ibUYwZFhKbExXOW1MWFJvWlMxMGIydGxiZw==», «LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JSUNlQUlCQURBTkJna3Foa2lHOXcwQgotLS0tLUVORCBQUklWQVRFIEtFWS0tLS0tCg==»",
        r#"{"caBundle":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSURkekNDQWwrZ0F3SUJBZ0lFQWdBQXVUQU5CZ2txCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K","id":"ZXlK{60}"}"#,
        r#"{"args":["echo '«YXBpIHsgY3JlZGVudGlhbHMgeyBhY2Nlc3Nfa2V5ID0gIksyUFdYMFZONlFaTCIgc2VjcmV0X2tleSA9ICJ1OFJrMXZRejdMbTNUYjVZYzlXZCIgfSB9Cg==»' | base64 --decode >> ~/clearml.conf ; python x"]}"#,
        r#"{"in":"{\"args\":[\"echo \\\"«YXBpIHsgY3JlZGVudGlhbHMgeyBhY2Nlc3Nfa2V5ID0gIksyUFdYMFZONlFaTCIgc2VjcmV0X2tleSA9ICJ1OFJrMXZRejdMbTNUYjVZYzlXZCIgfSB9Cg==»\\\" | base64 -d > x\"]}"}"#,
        r#"{"args":["echo \u0027«YXBpIHsgY3JlZGVudGlhbHMgeyBhY2Nlc3Nfa2V5ID0gIksyUFdYMFZONlFaTCIgc2VjcmV0X2tleSA9ICJ1OFJrMXZRejdMbTNUYjVZYzlXZCIgfSB9Cg\u003d\u003d»\u0027|base64 -d"]}"#,
        "echo «H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==» | base64 -d | gunzip",
        "echo IyEvYmluL3NoCnNldCAtZQplY2hvIHJlYWR5ID4gL3RtcC9zdGF0ZQo= | base64 -d | sh; base64 -d x; cat x | base64 -d; | base64 -d",
        r#"export CLEARML_AUTH_TOKEN=$(echo '«ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5LmV5SnpkV0lpT2lKM2IzSnJaWEl0TnlJc0ltbGhkQ0k2TVRjMk56VTVOekV5TUgwLmMybG5ibUYwZFhKbExXOW1MWFJvWlMxMGIydGxiZw==»' | base64 --decode) && python x"#,
        r#"{"args":["export CLEARML_AUTH_TOKEN=$(echo '«ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1Y0NJNklrcFhWQ0o5LmV5SnpkV0lpT2lKM2IzSnJaWEl0TnlJc0ltbGhkQ0k2TVRjMk56VTVOekV5TUgwLmMybG5ibUYwZFhKbExXOW1MWFJvWlMxMGIydGxiZw==»' | base64 --decode) && x"]}"#,
    ]);
}

#[test]
fn base64_of_objects_and_scripts_shows_by_what_it_stands_for() {
    check(&[
        r#"{"httpTarget":{"httpMethod":"POST","body":"«eyJ1c2VybmFtZSI6ImJpbGxpbmciLCJwYXNzd29yZCI6Imh1bnRlcjJodW50ZXIyLWFuZC1tb3JlIn0=»","uri":"https://example.org/run"}}"#,
        r#"{"in":"{\"data\":\"«eyJ1c2VybmFtZSI6ImJpbGxpbmciLCJwYXNzd29yZCI6Imh1bnRlcjJodW50ZXIyLWFuZC1tb3JlIn0=»\",\"id\":7}"}"#,
        "/x?state=«eyJvdHAiOiIxMjM0NTYifQ==»&y=1 /x?state=«eyJvdHAiOiIxMjM0NTYifQ%3D%3D»&y=1",
        r#"{"a":"«ewogICJ0b2tlbiI6ICJrN1FtMlp4OVJiVDR2TmNXOHNMcCIKfQ==»","b":"«W3sibmFtZSI6IkRCX1BBU1NXT1JEIiwidmFsdWUiOiJodW50ZXIyIn1d»"}"#,
        r#"{"a":"«IyEvYmluL2Jhc2gKZXhwb3J0IERCX1BBU1NXT1JEPSdodW50ZXIyaHVudGVyMicKLi9ydW4K»","b":"«I2Nsb3VkLWNvbmZpZwp1c2VyczoKICAtIG5hbWU6IGFwcAogICAgcGFzc3dkOiBodW50ZXIyaHVudGVyMgo=»","c":"«ZXhwb3J0IEdJVExBQl9UT0tFTj1rN1FtMlp4OVJiVDR2TmNXOHNMcAo=»"}"#,
        r#"{"a":"«Q29udGVudC1UeXBlOiBtdWx0aXBhcnQvbWl4ZWQ7IGJvdW5kYXJ5PSJ4IgoKLS14CgojIS9iaW4vc2gKbXlzcWwgLXBodW50ZXIyaHVudGVyMiBhcHAK»","b":"«TUlNRS1WZXJzaW9uOiAxLjAKCnBhc3N3b3JkPWh1bnRlcjJodW50ZXIyCg==»"}"#,
        r#"{"userData":"«PHBvd2Vyc2hlbGw+CiRwYXNzd29yZCA9ICdodW50ZXIyaHVudGVyMicKPC9wb3dlcnNoZWxsPg==»","UserData":"«PHNjcmlwdD4KbmV0IHVzZSB4OiAvcGFzc3dvcmQ6aHVudGVyMmh1bnRlcjIKPC9zY3JpcHQ+»","body":"«PD94bWwgdmVyc2lvbj0iMS4wIj8+PHBhc3N3b3JkPmh1bnRlcjJodW50ZXIyPC9wYXNzd29yZD4=»"}"#,
        r#"{"body":"«W2RlZmF1bHRdCmF3c19zZWNyZXRfYWNjZXNzX2tleSA9IHdKYWxyazdRbTJaeDlSYlQ0dk5jVzhzTHBZM2dIZEo2ZkFxRTV1WGkK»","b":"«YXBpVmVyc2lvbjogdjEKdXNlcnM6Ci0gdXNlcjoKICAgIHRva2VuOiBrN1FtMlp4OVJiVDR2TmNXOHNMcAo=»"}"#,
        r#"{"a":"eyJuZXh0VG9rZW4iOm51bGwsImJvdG9fdHJ1bmNhdGVfYW1vdW50IjoxMDAsImtleSI6IkFLSUFJT1NGT0ROTjdFWEFNUExFIn0=","b":"IyEvYmluL2Jhc2gKc2V0IC1lCnl1bSBpbnN0YWxsIC15IG5naW54CiMga3ViZWN0bCAtbiB3ZWIgZ2V0IHBvZHMK"}"#,
        "nextToken=eyJuZXh0VG9rZW4iOm51bGwsImJvdG9fdHJ1bmNhdGVfYW1vdW50IjoxMDAsImtleSI6IkFLSUFJT1NGT0ROTjdFWEFNUExFIn0= got eyJ{20}.{4} eyJ{60}",
    ]);
}

#[test]
fn base64_of_utf_16_shows_by_what_it_stands_for() {
    check(&[
        r#"{"command":"powershell.exe -NoProfile -EncodedCommand «JABwAGEAcwBzAHcAbwByAGQAIAA9ACAAJwBoAHUAbgB0AGUAcgAyAGgAdQBuAHQAZQByADIAJwA7ACAAbgBlAHQAIAB1AHMAZQAgAHgAOgAgACQAcABhAHMAcwB3AG8AcgBkAA==»"}"#,
        r#"{"command":["pwsh","-enc","«QwBvAG4AbgBlAGMAdAAtAFgAIAAtAFUAcwBlAHIAIABqAG8AIAAtAEEAcABpAEsAZQB5ACAAawA3AFEAbQAyAFoAeAA5AFIAYgBUADQAdgBOAGMAVwA4AHMATABwAA==»"],"n":1}"#,
        r#"{"in":"{\"line\":\"pwsh -e \\u0027«JABwAGEAcwBzAHcAbwByAGQAIAA9ACAAJwBoAHUAbgB0AGUAcgAyAGgAdQBuAHQAZQByADIAJwA7ACAAbgBlAHQAIAB1AHMAZQAgAHgAOgAgACQAcABhAHMAcwB3AG8AcgBkAA==»\\u0027\\n«QwBvAG4AbgBlAGMAdAAtAFgAIAAtAFUAcwBlAHIAIABqAG8AIAAtAEEAcABpAEsAZQB5ACAAawA3AFEAbQAyAFoAeAA5AFIAYgBUADQAdgBOAGMAVwA4AHMATABwAA==»\"}"}"#,
        "/exec?command=pwsh&command=-e&command=«QwBvAG4AbgBlAGMAdAAtAFgAIAAtAFUAcwBlAHIAIABqAG8AIAAtAEEAcABpAEsAZQB5ACAAawA3AFEAbQAyAFoAeAA5AFIAYgBUADQAdgBOAGMAVwA4AHMATABwAA==»&stdin=true pwsh+-e%20«QwBvAG4AbgBlAGMAdAAtAFgAIAAtAFUAcwBlAHIAIABqAG8AIAAtAEEAcABpAEsAZQB5ACAAawA3AFEAbQAyAFoAeAA5AFIAYgBUADQAdgBOAGMAVwA4AHMATABwAA%3D%3D»",
        "powershell -EncodedCommand RwBlAHQALQBDAGgAaQBsAGQASQB0AGUAbQAgAC0AUgBlAGMAdQByAHMAZQAgAHwAIABNAGUAYQBzAHUAcgBlAC0ATwBiAGoAZQBjAHQA",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg== AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    ]);
}

#[test]
fn fields_of_base64_show_by_what_it_stands_for() {
    check(&[
        r#"{"requestParameters":{"userData":"«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»","imageId":"ami-1"}}"#,
        r#"{"userData":{"value":"«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»"},"UserData":"«cG9ydD04MApwb3J0PTgwCnBvcnQ9ODAKcG9ydD04MApwb3J0PTgwCnBvcnQ9ODAKcG9ydD04MApw\nb3J0PTgwCnBvcnQ9ODAKZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»"}"#,
        r#"{"userData":"«H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==»","x":"H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=="}"#,
        r#"{"kind":"ConfigMap","binaryData":{"logo.png":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==","app.conf":"«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»"},"data":{"a":"b"}}"#,
        r#"{"in":"{\"binaryData\": { \"app.conf\": \"«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»\" , \"b\":\"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==\"}}"}"#,
        r#"{"httpTarget":{"body":"«dXNlcj1qbyZwYXNzd29yZD1odW50ZXIyaHVudGVyMiZ4PTE=»"},"Body":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="}"#,
        r#"{"body":"{\"password\":\"«hunter2»\",\"id\":7}","userData":"set -e\nexport DB_PASSWORD=«hunter2»\n"}"#,
        r#"[{"name":"body","value":"x password=«hunter2» y"},{"name":"userData","value":"«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=»"}]"#,
        r#"{"body":["token=«{24}»"],"binaryData":{"a":"token=«{24}»","b":{"c":"d"}},"body":"ok"}"#,
        "userData=«c2VydmVyIHsKICBsaXN0ZW4gODA7Cn0KZGIucGFzc3dvcmQgPSBodW50ZXIyaHVudGVyMgo=» body: welcome, everybody: {30}",
    ]);
}

#[test]
fn private_keys_keep_their_lines() {
    check(&[
        "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
        "key:\n«-----BEGIN RSA PRIVATE KEY-----\nMIIC{60}\n{60}\n-----END RSA PRIVATE KEY-----»\nnext",
        r#"{"k":"«-----BEGIN PRIVATE KEY-----\nMIIC{60}\n-----END PRIVATE KEY-----»\n","b":1}"#,
        r#"{"k":"{\"k\":\"«-----BEGIN EC PRIVATE KEY-----\\nMIIC{60}\\n-----END EC PRIVATE KEY-----»\\n\"}"}"#,
        r#"{"private_key":"«-----BEGIN PRIVATE KEY-----\nMIIC{60}\n-----END PRIVATE KEY-----\n»","b":1}"#,
        r#"{"k":"«-----BEGIN PRIVATE KEY-----\nMIIC{60}\n»"}"#,
    ]);
}

#[test]
fn urls_keep_all_but_their_secrets() {
    check(&[
        "postgres://app:«s3cr;et%21»@db.internal:5432/app?sslmode=require",
        r#"{"remote":"https:\/\/ci:«{20}»@git.example.org\/x.git"}"#,
        "git clone https://«ghp_{36}»:«x-oauth-basic»@github.com/o/r https://«{30}»@git.example.org/",
        "https://example.org:8443/a@b https://user@example.org/",
        "GET /b/o?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101&X-Amz-Signature=«0123456789abcdef0123456789abcdef»&x=1",
        "/o?X-Amz-Security-Token=«IQoJb3JpZ2lu{40}%2F{40}%3D%3D»&X-Amz-Expires=60",
        "https://a.blob.core.windows.net/c?sv=2024&sig=«{30}%2B{12}%3D»&se=2026",
        "https://storage.googleapis.com/b/o?X-Goog-Signature=«{64}»",
        r#"{"uri":"/login?access_token=«{30}»\u0026user=jo&state=x"}"#,
        "https://app/cb?code=«{30}»&state=1 code=42 \"code\":\"AccessDeniedForThisRequest1\"",
        "/r?next=https%3A%2F%2Fapp%2F%3Ftoken%3D«{24}»%26page%3D2",
        "/r?next=%2Fcb%3Fcode%3D«{24}»%26state%3D1 /r?n=%252Fcb%253Fcode%253D«{24}»",
        r#"{"u":"/cb?code\u003d«{30}»\u0026state\u003d1","v":"/o?sv\u003d1\u0026sig\u003d«{30}»"}"#,
        r#"{"in":"{\"u\":\"/cb?code\\u003d«{30}»\\u0026sig\\u003d«{30}»\"}"}"#,
        "https://d-1.awsapps.com/start/?state={8}&auth_code=«{60}»&organization=d-1",
    ]);
}

#[test]
fn fields_of_json_show_by_their_name_at_any_depth() {
    check(&[
        r#"{"password":"«hunter2»","user":"jo"}"#,
        r#"{ "Client_Secret" : "«a\"b\\»", "x": [1, 2] }"#,
        r#"{"credentials":{"accessKeyId":"ASIAIOSFODNN7EXAMPLE","sessionToken":"«{60}»","expiration":"x"}}"#,
        r#"{"body":"{\"token\":\"«{20}»\",\"id\":7}"}"#,
        r#"{"body":"{\"in\":\"{\\\"apiKey\\\":\\\"«a\\\\\\\\b»\\\"}\"}"}"#,
        r#"{"body":"{\u0022refresh_token\u0022:\u0022«{20}»\u0022}"}"#,
        r#"{"headers":{"authorization":["Bearer «{20}»","Basic «dTpw»"],"cookie":["«a=b; c=d»"]}}"#,
        r#"{"authorization":"GenieKey «{30}»","cookie":"«a»"}"#,
        r#"{"headers":{"x-vault-token":["«{26}»"],"accept":["*/*"]}}"#,
        r#"{"SecretString":"«{\"user\":\"app\",\"password\":\"x\"}»"}"#,
        r#"{"API Key":"«{30}»","Proxy-Authorization":"«{30}»"}"#,
        r#"{"env":[{"name":"DB_PASSWORD","value":"«hunter2»"},{"name":"HOME","value":"/root"}]}"#,
        r#"[{"parameterKey":"dbPassword","parameterValue":"«hunter2»","usePreviousValue":false}]"#,
        r#"{"key":"token","value":{"stringValue":"«{20}»"}}"#,
        r#"{"token":{"raw":"«{20}»","claims":{"sub":"jo"}}}"#,
        r#"{"args":["--password","«hunter2»","--user","jo","--token=«{20}»","-v"]}"#,
        r#"{"msg":"{'password': '«it is»', 'n': 1}"}"#,
        r#"{"auth":{"client_token":"«s.{24}»","accessor":"«{24}»"}}"#,
        r#"{"secret_id":"«3f2b8c1e-0a1b-4c2d-8e3f-a1b2c3d4e5f6»","role_id":"3f2b8c1e-0a1b-4c2d-8e3f-a1b2c3d4e5f6"}"#,
        r#"{"data":{"role_id":"r","secret_id":"«my-own-choice»"}}"#,
        r#"{ "role_id": "r", "secret_id": "«my-own-choice»" }"#,
        r#"{"in":"{\"role_id\":\"r\",\"secret_id\":\"«my-own-choice»\"}"}"#,
        r#"{"data":{"secret_id":"«my-own-choice»","secret_id_accessor":"a","secret_id_ttl":0}}"#,
        r#"{"role_id":"r","secret_id":"hmac-sha256:0123456789abcdef"}"#,
        r#"{"secret_id":"abc"#,
        r#"{"secret_id":"abc""#,
        r#"{"secret_id":"abc","#,
        r#""role_id":"r","secret_id":"«abc»""#,
        r#"{"secret_id":"prod/db","version":"latest","role_id":"r"}"#,
        r#"{"privateKeyData":"«{40}»","privateKeyPem":"«{40}»","keyMaterial":"«{40}»","publicKeyData":"{40}"}"#,
        r#"{"gitPass":"«hunter2»","client-key-data":"«{40}»","apiKeyValue":"«{24}»","sig":"«{30}»"}"#,
        r#"{"authCode":"«{30}»","authorization_code":"«{30}»"}"#,
        r#"{"password":{"value":"«hunter2»"},"token":{"raw":true},"apiKey":{"stringValue":"«{20}»"}}"#,
        r#"[{"value":"«hunter2»","name":"DB_PASSWORD"},{ "Value" : "«{20}»" , "Key" : "api-token" , "n":1}]"#,
        r#"{"in":"[{\"value\":\"«a \\\"b\\\"»\",\"name\":\"DB_PASSWORD\"}]"}"#,
        r#"[{"value":"x","type":"password"},{"id":"x","name":"token"},["value","password"],{"name":"token"}]"#,
        r#"{"in":"{\"in\":\"{\\u0022password\\u0022:\\u0022«hunter2»\\u0022,\\u0022n\\u0022:1}\"}"}"#,
        r#"{"in":"{\\u0022password\\u0022:\\u0022«hunter2»\\u0022}"}"#,
        r#"{"tokenCode":"«123456»","SAMLResponse":"«PHNhbWxwOlJlc3BvbnNl{60}»"}"#,
        r#"{"password":"«cut off»"#,
        "{\"password\":\"«cut off»\n{\"a\":1}",
    ]);
}

#[test]
fn console_lines_show_by_their_name() {
    check(&[
        "password=«hunter2» user=jo",
        "agent.git_pass = «correct horse battery»\nagent.git_user = jo\n",
        "api.credentials.secret_key = «{40}»\napi.credentials.access_key = {20}\n",
        "CLEARML_API_ACCESS_KEY={20}\nCLEARML_API_SECRET_KEY=«{40}»\n",
        "export GITLAB_TOKEN=«{20}» && run",
        "  secret_key: \"«{40}»\"\n  user: jo",
        "5\" disk, password=\"«hunter2»\"\npassword = \"«, two words»\"",
        "login --password «hunter2» --user jo; login -token «{20}»",
        "net use \\\\\\\\host /user:jo /password:«P@ssw0rd1» /node:1",
        "Authorization: Bearer «{30}»\r\nHost: x\r\n",
        "> Cookie: «sid=1; theme=dark»\r\n> Accept: */*",
        "curl -H \"X-Vault-Token: «{26}»\" https://vault/v1/x",
        "headers {'authorization': 'Basic «dTpw»', 'n': 1}",
        "AccountName=x;AccountKey=«{60}==»;EndpointSuffix=core.windows.net",
        "token:«{24}», secret: «{24}»",
        "<password>«hunter2»</password>",
        "['password'] = '«hunter2»'",
        "aws configure set aws_secret_access_key «{40}»",
        "ALTER ROLE app PASSWORD '«hunter2»'",
        "TOKEN=$(echo -n «{20}») PASSWORD=\"«$(echo hunter2)»\" x",
        "TOKEN=$(cat /run/token) PASSWORD=$(DB_PASSWORD)x --token=$(vault read -field=x y)",
        "authorization: GenieKey «{30}», Authorization: token «{8}»",
        r#"{"xml":"\u003cpassword\u003e«hunter2»\u003c/password\u003e"}"#,
        r#"{"line":"a=1\npassword=«hunter2»\nb=2","q":"x?token=","z":","}"#,
        r#"{"cmd":"login --password=\"«two words»\" --user jo"}"#,
        r#"{"url":"x?token=\u0022","z":"y"}"#,
    ]);
}

#[test]
fn options_show_by_the_command_that_they_belong_to() {
    check(&[
        "curl -u jo:«hunter2» https://api.example.org/v1",
        "+ /usr/bin/curl -s -X POST --user 'jo:«two words»' -d '{}' https://api.example.org",
        r#"{"args":["curl","-u","jo:«hunter2»","https://api.example.org"]}"#,
        r#"{"message":"ran curl -k -u \"jo:«hunter2»\" https://api.example.org\nok"}"#,
        "curl -ujo:«hunter2» https://api.example.org",
        "curl -u jo https://api.example.org",
        "curl -u $USER:$PASSWORD https://api.example.org",
        "curl https://api.example.org | docker run -u 1000:1000 -p 8080:80 web",
        "docker login registry.example.org -u jo -p «hunter2»",
        r#"["podman","login","-u","jo","-p","«hunter2»","registry.example.org"]"#,
        "docker login registry.example.org && docker run -p 8080:80 web",
        "mysql -h db -u app -p«hunter2» orders",
        "mysql -h db -u app -p orders",
        "sshpass -p «hunter2» ssh -p 22 jo@host",
        "mycurl -u 1:2 and logins -p 1",
        "curl -u «-----BEGIN PRIVATE KEY-----»?://word",
        "curl -u",
        "docker login -p -u",
    ]);
}

#[test]
fn commands_in_urls_show_their_secrets() {
    check(&[
        r#"{"requestURI":"/api/v1/namespaces/db/pods/m-0/exec?command=mysql&command=-uroot&command=-p«ExecPw99x»&container=m&stdin=true"}"#,
        r#"{"requestURI":"/exec?command=mysql\u0026command=-uroot\u0026command=-p«ExecPw99x»\u0026container=m"}"#,
        r#"{"in":"{\"requestURI\":\"/exec?command=mysql\\u0026command=-p«ExecPw99x»\\u0026container=m\"}"}"#,
        "/exec?command=sh&command=-c&command=mysql+-uroot+-p«ExecPw99x»+orders&stdin=true",
        "/exec?command=sh&command=-c&command=mysql%20-p«ExecPw99x»%20orders /exec?command=mysql+-p«a%2Bb%26c»",
        "/exec?command=sshpass&command=-p&command=«ExecPw99x»&command=ssh&command=-p&command=22",
        "/exec?command=docker+login+-u+jo+-p+«ExecPw99x»+registry.example.org",
        "/exec?command=curl&command=-u&command=jo%3A«ExecPw99x»&command=https%3A%2F%2Fapi.example.org",
        "/exec?command=curl+-ujo:«ExecPw99x»+--user%3Djo%3A«ExecPw99x»+https%3A%2F%2Fjo%40api.example.org",
        "/exec?command=psql&command=postgres%3A%2F%2Fu%3A«ExecPw99x»%40h%2Forders&stdin=true",
        "/r?next=postgres%3a%2f%2fu:«Exec%252FPw99x»@h&x=1 postgres%253A%252F%252Fu%253A«ExecPw99x»%2540h%252Forders",
        "/r?next=https%3A%2F%2F«{30}»%40git.example.org%2Fx.git https%3A%2F%2F«ghp_{36}»%3A«x-oauth-basic»%40github.com",
        "/exec?command=tool&command=--password&command=«ExecPw99x»&command=--host&command=h",
        "/exec?command=tool+--password+«ExecPw99x»+--token%3D«ExecTk99x»&stdin=true",
    ]);
}

#[test]
fn commands_in_urls_keep_all_else() {
    check(&[
        "/exec?command=ssh&command=-p&command=22&command=jo%40host /exec?command=ssh+-p+22+jo%40host",
        "/exec?command=mkdir+-p+%2Fvar%2Flib%2Fmysql /exec?command=mysql&command=-p&container=m",
        "/exec?command=mysql&command=-p&command=orders /exec?command=docker+run+-p+8080%3A80+-u+1000%3A1000+web",
        "/exec?command=docker+login+r+%26%26+docker+run+-p+8080%3A80+web /x?q=login%3B+run+-p+80",
        "az login, then /exec?command=nc&command=-p&command=8080",
        "/exec?command=kubectl&command=-n&command=web&command=get&command=pods&command=--token-ttl&command=60",
        "/r?next=https%3A%2F%2Fexample.org%3A8443%2Fa%40b&x=jo%40example.org https%3A%2F%2Fuser%40example.org%2F",
        "projects/p/logs/cloudaudit.googleapis.com%2Factivity a%2F%2Fb c++-programming 10-pods x=-p0 a=b--password+x",
    ]);
}

#[test]
fn kubernetes_secrets_show_by_their_object() {
    check(&[
        r#"{"kind":"Event","objectRef":{"resource":"secrets","name":"db"},"requestObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db"},"data":{"user":"«am8=»","empty":""},"stringData":{"p":"«x y»"},"type":"Opaque"}}"#,
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"data":{"p":"«eA==»"}},"x":{"data":{"a":"b"}}}"#,
        r#"{"objectRef":{"resource":"secrets"},"requestObject":[{"op":"add","path":"/data/p","value":"«eA==»"},{"op":"add","path":"/data","value":{"q":"«eQ==»"}}]}"#,
        r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"data":{"p":"x"}}}"#,
        r#"{"objectRef":{"resource":"secrets"},"responseObject":{"kind":"SecretList","items":[{"metadata":{"name":"db"},"data":{"p":"«eA==»"},"type":"Opaque"},{"stringData":{"q":"«y»"}}]}}"#,
        r#"{"responseObject":{"kind":"List","items":[{"data":{"p":"«eA==»"}}]},"objectRef":{"resource":"secrets"}}"#,
        r#"{"objectRef":{"resource":"secrets"},"responseObject":{"kind":"Table","rows":[{"cells":["db"],"object":{"metadata":{},"data":{"p":"«eA==»"}}}]}}"#,
        r#"{"log":"{\"objectRef\":{\"resource\":\"secrets\"},\"responseObject\":{\"items\":[{\"data\":{\"p\":\"«eA==»\"}}]}}\n"}"#,
        r#"{"items":[{"data":{"p":"«eA==»"}}],"kind":"SecretList"}"#,
        r#"{"items":[{"objectRef":{"resource":"secrets"},"responseObject":{"items":[{"data":{"p":"«eA==»"}}]}},{"objectRef":{"resource":"configmaps"},"responseObject":{"items":[{"data":{"p":"eA=="}}]}}],"kind":"EventList"}"#,
        r#"{"protoPayload":{"response":{"@type":"core.k8s.io/v1.SecretList","items":[{"data":{"p":"«eA==»"}}]}}}"#,
        r#"{"protoPayload":{"response":{"data":{"p":"«eA==»"},"@type":"core.k8s.io\/v1.Secret"},"request":{"data":{"p":"x"},"@type":"core.k8s.io/v1.ConfigMap"}}}"#,
        r#"{"protoPayload":{"methodName":"io.k8s.core.v1.secrets.patch","request":{"@type":"k8s.io/Patch","data":{"p":"«eA==»"}}}}"#,
        r#"{"protoPayload":{"methodName":"io.k8s.core.v1.configmaps.patch","request":{"@type":"k8s.io/Patch","data":{"p":"eA=="}}}}"#,
        r#"{"data":{".dockerconfigjson":"{\"auths\":{\"registry.example.org\":{\"auth\":\"«Y2k6dThSazF2UXo3TG0z»\",\"email\":\"x\"},\"b\":{\"auth\":\"«Y2k6dThSazF2UXo3TG0z»\"}}}","auth":"x"}}"#,
        r#"{"rules":[{"resources":["secrets"]}],"data":{"a":"b"}}"#,
        r#"{"items":[{"data":{"a":"«YQ==»"},"kind":"Secret"},{"data":{"a":"b"},"kind":"ConfigMap"}]}"#,
        r#"{"last":"{\"data\":{\"a\":\"«YQ==»\"},\"kind\":\"Secret\"}\n","data":{"b":"c"}}"#,
        "{\n  \"kind\": \"Secret\",\n  \"data\": {\n    \"a\": \"«YQ==»\"\n  }\n}\n",
    ]);
}

#[test]
fn values_of_vault_show_by_their_store() {
    check(&[
        r#"{"type":"response","auth":{"client_token":"hmac-sha256:0123456789abcdef","policies":["default"],"metadata":{"role":"app"}},"request":{"id":"r","mount_type":"kv","mount_accessor":"kv_1","path":"secret/data/app"},"response":{"mount_type":"kv","data":{"data":{"foo":"«plainSecretValue123»","deep":{"a":["«x1»","«y2»"]},"n":7,"h":"hmac-sha256:0123456789abcdef"},"metadata":{"created_time":"2026-01-05T07:08:09.1Z","custom_metadata":{"owner":"jo"},"version":3}}}}"#,
        r#"{"type":"request","auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"mount_type":"kv","data":{"data":{"metadata":"«plainSecretValue123»","keys":["«x1»"]},"options":{"cas":0,"note":"x"}},"path":"team/data/app"}}"#,
        r#"{"request":{"data":{"foo":"«plainSecretValue123»","metadata":{"a":"b"}},"mount_accessor":"kv_1","mount_type":"kv","path":"kv1/app"},"response":{"data":{"foo":"«plainSecretValue123»","ttl":"«1h»"},"mount_type":"kv"},"type":"response"}"#,
        r#"{"auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"path":"secret/data/app"},"response":{"data":{"data":{"foo":"«plainSecretValue123»"}}}}"#,
        r#"{"auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"path":"sys/rekey/update","data":{"key":"«plainSecretValue123»","nonce":"«n1»"}}}"#,
        r#"{"auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"path":"auth/approle/role/ci/custom-secret-id","data":{"secret_id":"«my-own-choice»"}}}"#,
        r#"{"auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"path":"sys/health","data":{"key":"x1"}}}"#,
        r#"{"auth":{"client_token":"hmac-sha256:0123456789abcdef"},"request":{"path":"cubbyhole/x","mount_type":"cubbyhole"},"response":{"data":{"foo":"«plainSecretValue123»"}}}"#,
        r#"{"request":{"mount_accessor":"kv_1","mount_type":"kv","path":"kv/metadata/app"},"response":{"mount_type":"kv","data":{"created_time":"2026-01-05T07:08:09Z","delete_version_after":"0s","keys":["app","db/"],"custom_metadata":{"owner":"jo"},"versions":{"1":{"created_time":"2026-01-05T07:08:09Z","deletion_time":""}},"current_version":1}}}"#,
        r#"{"request":{"mount_accessor":"pki_1","mount_type":"pki","path":"pki/data/x","data":{"common_name":"app.example.org"}},"response":{"mount_type":"pki","data":{"serial_number":"39:dd:2e","certificate":"-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----"}}}"#,
        r#"{"data":{"time":"2026-01-05T07:08:09Z","type":"response","request":{"mount_accessor":"kv_1","mount_type":"kv","id":"r"},"response":{"data":{"data":{"foo":"«plainSecretValue123»"}}}},"x":{"data":{"a":"b"}}}"#,
        r#"{"message":"{\"request\":{\"mount_accessor\":\"kv_1\",\"mount_type\":\"kv\",\"data\":{\"data\":{\"foo\":\"«plain \\\"x\\\" 1»\"}},\"path\":\"a/data/b\"}}\n","data":{"a":"b"}}"#,
        "{\n  \"request\": {\n    \"data\": {\n      \"foo\": \"«plainSecretValue123»\"\n    },\n    \"mount_accessor\": \"kv_1\",\n    \"mount_type\": \"kv\"\n  }\n}\n",
    ]);
}

#[test]
fn ids_states_and_masks_stay() {
    check(&[
        r#"{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","access_key":"{20}","keyId":"{20}","key":"{20}"}"#,
        r#"{"secretId":"prod/db","secretArn":"arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf","secret":"projects/p/secrets/s"}"#,
        r#"{"serviceAccountKeyName":"//iam.googleapis.com/projects/p/serviceAccounts/s/keys/{40}"}"#,
        r#"{"extra":{"authentication.kubernetes.io/credential-id":["JTI=3f2b8c1e-0a1b","X509SHA256=0123456789abcdef"]}}"#,
        r#"{"tokenType":"Bearer","token_type":"service","token_issue_time":"2024-08-15T13:15:03Z","tokenExpiresAt":"x","token_ttl":60}"#,
        r#"{"passwordLastUsed":"2023-07-10","passwordResetRequired":"false","sessionCredentialFromConsole":"true"}"#,
        r#"{"nextToken":"{60}","continuationToken":"{60}","NextPageToken":"{60}","clientToken":"{36}","clientRequestToken":"{36}","marker":"{30}"}"#,
        r#"{"subjectFromWebIdentityToken":"system:serviceaccount:ns:app","hashed_token":"{40}="}"#,
        r#"{"password":null,"token":true,"secret":7,"api_key":"","otp":{"a":"b"},"cookie":[]}"#,
        r#"{"masterUserPassword":"HIDDEN_DUE_TO_SECURITY_REASONS","token":"****","secret":"<redacted>","pwd":"[REDACTED]","apiKey":"${API_KEY}"}"#,
        r#"{"client_token":"hmac-sha256:0123456789abcdef","accessor":"hmac-sha256:0123456789abcdef","mount_accessor":"auth_jwt_{8}"}"#,
        r#"{"resource":"secrets","action":"secretsmanager:GetSecretValue","eventName":"GetSessionToken","type":"access_token"}"#,
        r#"{"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}"#,
        r#"{"authorization":"{\"action\":\"Microsoft.Storage/listKeys/action\"}","authorizationInfo":[{"permission":"a.b"}]}"#,
        r#"{"token_uri":"https://oauth2.googleapis.com/token","eventSource":"sts.amazonaws.com","SignatureVersion":"SigV4"}"#,
        r#"{"encryptionKey":"3f2b8c1e-0a1b-4c2d-8e3f-a1b2c3d4e5f6","Signature":"Microsoft Windows"}"#,
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3, Signature=«0123456789abcdef0123456789abcdef»",
        r#"{"reason":"RBAC: allowed by ClusterRoleBinding \"token:reader123\" of ClusterRole \"secret:edit1\"","use":"sig","kid":"{30}"}"#,
        "Received new token: ok, invalid password: try again, secret: default/web-tls-x7k2p not found",
        "arn:aws:secretsmanager:us-east-1:1:secret:prod/db-AbCdE1 system:token:read1x PWD=/home/jo",
        "task-0123456789abcdefABCDEF0123456789 WWW-Authenticate: Bearer realm=\"x\", Basic authentication",
        r#"{"authentication.k8s.io/stale-token":"subject: system:serviceaccount:ns:app, seconds after warning threshold: 4"}"#,
        "revoked token 00T1bjatrp6Nl1dOc5d7, token: Basic check failed, authorization: denied for jo",
        "agent.git_pass = \nagent.git_user = jo\nsecret_key = ****\ntokens: 512 token=none",
    ]);
}

#[test]
fn the_same_secret_has_the_same_fingerprint_everywhere() {
    let secret = "a+b/{c}\"d=";
    let fingerprint = redactor().fingerprint(secret.as_bytes());
    for text in [
        r#"{"password":"a+b/{c}\"d="}"#,
        r#"{"password":"a+b\/{c}\"d\u003d"}"#,
        r#"{"in":"{\"password\":\"a+b/{c}\\\"d=\"}"}"#,
        "/x?password=a+b%2F%7Bc%7D%22d%3D&y=1",
        "/x?next=%2Fy%3Fpassword%3Da+b%2F%7Bc%7D%22d%3D%26y%3D1",
    ] {
        assert!(redact(text).contains(&fingerprint), "{text} -> {}", redact(text));
    }
    assert_ne!(Redactor::new(&Key::derive("other")).fingerprint(secret.as_bytes()), fingerprint);
    assert_eq!(format!("{:?}", redactor()), "Redactor { key: Key(..) }");
}

#[test]
fn text_without_secrets_is_not_copied() {
    assert_eq!(redactor().redact(br#"{"eventName":"AssumeRole"}"#), None);
    assert_eq!(redactor().redact(b""), None);
    assert_eq!(redactor().redact(b":\\/\\"), None);
}

/// What meets in payloads: names, separators, quotes, escapes, prefixes, values, and noise.
fn fragment() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "password",
        "token",
        "secret",
        "\"authorization\"",
        "\"cookie\"",
        "\"secret_id\"",
        "\"role_id\"",
        "signature",
        "nextToken",
        "\"kind\":\"Secret\"",
        "\"data\"",
        "\"resource\":\"secrets\"",
        "\"requestObject\"",
        "\"request\":{",
        "\"mount_accessor\":\"kv\",",
        "\"mount_type\":\"kv\",",
        "\"data\":{",
        "\"items\"",
        "\"auths\":{",
        "\"value\"",
        "\"name\"",
        "curl -u ",
        "sshpass -p",
        " -u ",
        "--user ",
        "command=",
        "+-p",
        "%20",
        "%3A%2F%2F",
        "%40",
        "| base64 -d",
        "$(echo ",
        "ZXlK",
        "LS0t",
        "IyEv",
        "\"body\"",
        "\"binaryData\":{",
        "JABwAGEA",
        "Bearer ",
        "Basic ",
        "eyJ",
        "ghp_",
        "s.",
        "sk-",
        "://",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "redacted:",
        "hmac-sha256:",
        "0123456789abcdef",
        "\"",
        "\\\"",
        "\\\\\\\"",
        "'",
        "\\u0022",
        "\\u003d",
        "\\",
        "\\n",
        "%3D",
        "%26",
        ":",
        "=",
        ",",
        ";",
        "&",
        "?",
        "@",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "--",
        "/",
        ".",
        " ",
        "\n",
        "\r\n",
        "AWS4-",
        "***",
        "\u{e9}",
        "value",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[a-zA-Z0-9]{1,30}", 1 => "\\PC{0,4}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..6).prop_map(|parts| parts.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        text().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let name = prop_oneof![
            prop::sample::select(vec![
                "password",
                "token",
                "authorization",
                "kind",
                "data",
                "body",
                "x"
            ])
            .prop_map(str::to_owned),
            text()
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::vec((name, inner.clone()), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            // JSON within a string.
            inner.prop_map(|value| serde_json::Value::from(value.to_string())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_keeps_its_lines_and_settles_at_once(
        parts in prop::collection::vec(fragment(), 0..40),
    ) {
        let input = parts.concat();
        let output = redact(&input);
        prop_assert_eq!(output.matches('\n').count(), input.matches('\n').count());
        let again = redact(&output);
        prop_assert_eq!(again, output);
    }

    #[test]
    fn any_bytes_are_read_without_harm(
        parts in prop::collection::vec(
            prop_oneof![
                3 => fragment().prop_map(String::into_bytes),
                1 => prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..40,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = parts.concat();
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        if let Some(output) = redactor().redact(bytes) {
            prop_assert_eq!(lines(&output), lines(bytes));
        }
    }

    #[test]
    fn json_stays_json(value in json(), pretty in any::<bool>()) {
        let input = match pretty {
            true => serde_json::to_string_pretty(&value),
            false => serde_json::to_string(&value),
        }
        .expect("a value can be written");
        let output = redact(&input);
        prop_assert!(
            serde_json::from_str::<serde_json::Value>(&output).is_ok(), "{} -> {}", input, output
        );
        let again = redact(&output);
        prop_assert_eq!(again, output);
    }

    #[test]
    fn a_planted_secret_leaves_no_piece(
        (prefix, body) in planted(),
        container in prop::sample::select(CONTAINERS),
        noise in "[ -~]{0,20}",
    ) {
        let secret = format!("{prefix}{body}");
        let record = serde_json::json!({
            "id": "AKIAIOSFODNN7EXAMPLE",
            "arn": "arn:aws:iam::123456789012:role/app",
            "noise": noise,
            "text": container.replace("SECRET", &secret),
        });
        let inner = container.replace("SECRET", &secret);
        for text in [inner, record.to_string(), serde_json::json!({ "in": record.to_string() }).to_string()] {
            let output = redact(&text);
            for piece in secret.as_bytes().windows(12) {
                let piece = std::str::from_utf8(piece).expect("secrets are ASCII here");
                prop_assert!(!output.contains(piece), "{} in {}", piece, output);
            }
            if text.contains("AKIAIOSFODNN7EXAMPLE") {
                prop_assert!(output.contains("AKIAIOSFODNN7EXAMPLE"), "{}", output);
                prop_assert!(output.contains("arn:aws:iam::123456789012:role/app"), "{}", output);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_token_of_known_shape_needs_no_name(
        prefix in prop::sample::select(PREFIXES),
        body in BODY,
        before in prop::sample::select(vec!["", "got ", "a=b ", "\n", "\"", "x: ", "/path/?q=", "(\t"]),
        after in prop::sample::select(vec!["", " ok", ",", "\n", "\"", ".", "&x=1", ")"]),
    ) {
        let line = format!("{before}{prefix}{body}{after}");
        let record = serde_json::json!({ "note": line, "n": 1 }).to_string();
        let nested = serde_json::json!({ "in": record }).to_string();
        for text in [line, record, nested] {
            prop_assert!(!redact(&text).contains(&body), "{} -> {}", text, redact(&text));
        }
    }

    #[test]
    fn a_password_of_any_signs_is_replaced_as_a_whole(
        password in "[ -~]{12,40}|\\PC{12,20}",
        name in prop::sample::select(vec!["password", "db_password", "userPwd", "OTP"]),
    ) {
        prop_assume!(!super::names::is_masked(password.as_bytes()));
        prop_assume!(!password.trim().is_empty());
        let record = serde_json::json!({ "id": 1, name: password, "to": "jo" });
        let nested = serde_json::json!({ "in": record.to_string(), "x": [true] });
        let fingerprint = redactor().fingerprint(password.as_bytes());
        for (value, path) in [(record, ""), (nested, "in")] {
            let output: serde_json::Value =
                serde_json::from_str(&redact(&value.to_string())).expect("JSON stays JSON");
            let inner = match path {
                "" => output,
                path => serde_json::from_str(output[path].as_str().expect("a string stays one"))
                    .expect("JSON within stays JSON"),
            };
            // What looks like an escape of a URL is taken for one.
            let is_ambiguous = password.contains('%') || password.contains('\\');
            prop_assert!(inner[name].as_str().is_some_and(|found| {
                found == fingerprint || is_ambiguous && found.starts_with("redacted:")
            }), "{} -> {}", value, inner);
            prop_assert_eq!(&inner["to"], "jo");
        }
    }
}

/// Places where any secret has to be found, whatever its shape.
const CONTAINERS: &[&str] = &[
    r#"{"password":"SECRET"}"#,
    r#"{"headers":{"x-vault-token":["SECRET"]}}"#,
    r#"{"name":"API_TOKEN","value":"SECRET"}"#,
    "https://example.org/cb?state=1&access_token=SECRET&x=y",
    "https://user:SECRET@example.org/path",
    "secret_key = SECRET",
    "export API_KEY=SECRET",
    "  client_secret: SECRET",
    "curl -H 'Authorization: Bearer SECRET' https://example.org",
    "Authorization: Bearer SECRET",
    "login --password SECRET --user jo",
    "Cookie: sid=SECRET; a=b",
];

/// Prefixes that need nothing else to be known.
const PREFIXES: &[&str] = &[
    "hvs.",
    "ghp_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "ya29.",
    "IQoJb3JpZ2lu",
    "sk_live_",
    "sk-ant-",
    "npm_",
    "eyJhbGciOiJIUzI1NiJ9.",
];

const BODY: &str = "[A-Z][a-z][0-9][A-Za-z0-9]{38,60}";

/// A token of a known shape, or of none.
fn planted() -> impl Strategy<Value = (String, String)> {
    let prefix = prop_oneof![
        prop::sample::select(PREFIXES),
        Just(""),
        Just("s."),
        Just("AIza"),
        Just("dapi")
    ];
    (prefix.prop_map(str::to_owned), BODY)
}
