//! The whole way over a real loopback socket, with a scripted broker behind it.

use super::*;
use crate::runtime::gate::Bounds;
use std::io::{Read, Write};

fn plain() -> Entry {
    let (most, addresses) = (u32::MAX, 1);
    let bounds = Bounds { connections: most, per_address: most, per_address_rate: most, addresses };
    Entry { gate: Arc::new(Gate::new(bounds)), tls: None, encryption: None }
}

/// Serves with `broker` answering, while `client` runs on this thread against the address.
fn with_server(
    broker: fn(AdminRequest) -> Result<AdminAnswer, AdminError>,
    client: impl FnOnce(&str) + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (calls, mut called) = mpsc::channel::<AdminCall>(REQUESTS_WAITING_MAX);
        let server = tokio::task::spawn_local(serve(listener, plain(), places(), calls));
        tokio::task::spawn_local(async move {
            while let Some(call) = called.recv().await {
                let _ = call.answer.send(broker(call.request));
            }
        });
        let (done, finished) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            client(&address);
            let _ = done.send(());
        });
        let _ = finished.await;
        server.abort();
        thread.join().unwrap();
    });
}

fn echo(request: AdminRequest) -> Result<AdminAnswer, AdminError> {
    match request {
        AdminRequest::Metrics { format } => {
            Ok(AdminAnswer::Page { format, text: "koine_x 1\n".into() })
        }
        AdminRequest::Describe { name, .. } => {
            Err(AdminError::NotFound(format!("no topic {name:?}")))
        }
        AdminRequest::Create { name, .. } => Ok(AdminAnswer::Json(json!({ "name": name }))),
        other => Ok(AdminAnswer::Json(json!(format!("{other:?}")))),
    }
}

fn raw(address: &str, head: &str) -> String {
    try_raw(address, head).unwrap()
}

fn try_raw(address: &str, head: &str) -> std::io::Result<String> {
    let mut socket = std::net::TcpStream::connect(address)?;
    write!(socket, "{head}connection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn own_client_gets_values_and_words() {
    with_server(echo, |address| {
        let body = json!({"name": "κ/1"});
        assert_eq!(
            client::request(address, "POST", "/koine/v1/topics", Some(&body)).unwrap(),
            body
        );
        let live = client::request(address, "GET", "/health/live", None).unwrap();
        assert_eq!(live, json!({"status": "live"}));
        let refused = client::request(address, "GET", "/koine/v1/topics/none", None).unwrap_err();
        assert_eq!(refused.to_string(), "no topic \"none\"");
    });
}

#[test]
fn metrics_and_refusals_on_the_wire() {
    with_server(echo, |address| {
        let metrics = raw(address, &format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n"));
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\nkoine_x 1\n"));
        let rebound = raw(address, "GET /koine/v1/topics HTTP/1.1\r\nhost: evil.example:15672\r\n");
        assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
        let scraped = raw(address, "GET /metrics HTTP/1.1\r\nhost: broker:15672\r\n");
        assert!(scraped.starts_with("HTTP/1.1 200 "), "{scraped}");
        let foreign = raw(
            address,
            &format!("GET /koine/v1/topics HTTP/1.1\r\nhost: {address}\r\norigin: http://evil.example\r\n"),
        );
        assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
        let method = raw(address, &format!("PUT /metrics HTTP/1.1\r\nhost: {address}\r\n"));
        assert!(
            method.starts_with("HTTP/1.1 405 ") && method.contains("allow: GET\r\n"),
            "{method}"
        );
        let large = "x".repeat(HEAD_BYTES_MAX * 2);
        // Refused with an answer, or already closed while we were still writing.
        if let Ok(refused) =
            try_raw(address, &format!("GET /{large} HTTP/1.1\r\nhost: {address}\r\n"))
        {
            assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
        }
    });
}

#[test]
fn names_that_are_ours() {
    for (host, ours) in [
        ("127.0.0.1:1", true),
        ("localhost", true),
        ("localhost:80", true),
        ("[::1]:80", true),
        ("evil.example", false),
        ("", false),
        ("localhost.evil.example:80", false),
    ] {
        assert_eq!(is_own_name(host), ours, "{host}");
    }
}
