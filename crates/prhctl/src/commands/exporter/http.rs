// SPDX-License-Identifier: MIT OR Apache-2.0

//! The HTTP server, which serves the metrics at `/metrics`.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server};

use super::metrics::{Format, encode};
use super::observer::Observer;

/// Serves until an error occurs, and returns it.
pub(super) fn serve(listener: TcpListener, observer: Observer) -> io::Error {
    let server = match Server::from_listener(listener, None) {
        Ok(server) => server,
        Err(error) => return io::Error::other(error),
    };
    let observer = Arc::new(Mutex::new(observer));
    loop {
        let request = match server.recv() {
            Ok(request) => request,
            Err(error) => return error,
        };
        let observer = Arc::clone(&observer);
        // A client that does not read the response blocks its own thread only. Without a thread,
        // the request is dropped, which responds with an error.
        let _ = thread::Builder::new().spawn(move || respond(request, &observer));
    }
}

fn respond(request: Request, observer: &Mutex<Observer>) {
    let path = request.url().split('?').next().unwrap_or_default();
    let response = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => metrics(format(&request), observer),
        (Method::Get | Method::Head, "/") => text(200, "text/plain", "see /metrics\n"),
        (Method::Get | Method::Head, _) => text(404, "text/plain", "not found: see /metrics\n"),
        _ => text(405, "text/plain", "only GET and HEAD are allowed\n"),
    };
    // The client may have disconnected.
    let _ = request.respond(response);
}

/// Returns the format that the client accepts. Prometheus prefers `OpenMetrics`.
fn format(request: &Request) -> Format {
    let mut accept = request
        .headers()
        .iter()
        .filter(|header| header.field.equiv("Accept"));
    match accept.any(|header| {
        header
            .value
            .as_str()
            .contains("application/openmetrics-text")
    }) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    }
}

fn metrics(format: Format, observer: &Mutex<Observer>) -> Response<io::Cursor<Vec<u8>>> {
    let snapshot = observer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .read();
    match encode(&snapshot, format) {
        Ok(metrics) => text(200, format.content_type(), &metrics),
        Err(error) => text(
            500,
            "text/plain",
            &format!("cannot encode metrics: {error}\n"),
        ),
    }
}

fn text(status: u16, content_type: &str, text: &str) -> Response<io::Cursor<Vec<u8>>> {
    let response = Response::from_data(text).with_status_code(status);
    match Header::from_bytes("Content-Type", content_type) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}
