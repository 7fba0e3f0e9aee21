//! A server of plain files that asks for a password: what git calls the dumb protocol.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

/// Serves the files below `root` to whoever brings this `Authorization`; its address. It ends with the test's process.
pub(crate) fn serve(root: PathBuf, authorization: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let expected = format!("authorization: {}", authorization.to_ascii_lowercase());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, root, expected) = (stream.unwrap(), root.clone(), expected.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                while let Some(first) = lines.next() {
                    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                    let is_let_in = headers.iter().any(|line| line.to_ascii_lowercase() == expected);
                    let path = first.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
                    let (status, body) = match fs::read(root.join(path.trim_start_matches('/'))) {
                        _ if !is_let_in => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new()),
                        Ok(bytes) => ("200 OK", bytes),
                        Err(_) => ("404 Not Found", Vec::new()),
                    };
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
