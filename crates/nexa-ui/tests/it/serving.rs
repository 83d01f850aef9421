//! Who is answered, with what headers, and how serving begins and ends.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;

use nexa_core::event::Cancel;
use nexa_core::lab::Lab;
use nexa_core::table::JsonLines;
use nexa_core::{Diagnose, ExitCode};
use nexa_ui::{Chat, Config, LeaderboardView, Site, serve};

use crate::http::{Board, Server};

const EMPTY: Board = Board(|_| Ok(LeaderboardView::default()));

fn empty_lab() -> (tempfile::TempDir, Lab) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
    (folder, lab)
}

fn site(lab: Lab) -> Site {
    Site { lab, tables: Arc::new(JsonLines), leaderboard: Arc::new(EMPTY), chat: Chat::default() }
}

#[test]
fn only_requests_for_this_machine_are_answered() {
    let (_folder, lab) = empty_lab();
    let server = Server::start(&lab, EMPTY);
    let check = |host: &str, expected: u16| {
        assert_eq!(server.open("/", &[("Host", host)]).status, expected, "{host}");
        assert_eq!(server.open("/runs.json", &[("Host", host)]).status, expected, "{host}");
    };
    check("localhost", 200);
    check(&format!("127.0.0.1:{}", server.port()), 200);
    check("rebound.example", 403);
    check(&format!("rebound.example:{}", server.port()), 403);
}

#[test]
fn every_page_forbids_foreign_and_inline_code() {
    let (_folder, lab) = empty_lab();
    let server = Server::start(&lab, EMPTY);
    for path in
        ["/", "/runs", "/leaderboard", "/data", "/review", "/chat", "/cost", "/compare", "/no/such/page"]
    {
        let answer = server.open(path, &[]);
        assert!(answer.head.contains("content-security-policy: default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"));
        let page = answer.text();
        assert!(!page.contains("http://") && !page.contains("https://"), "{path} names a foreign address");
        assert!(!page.contains("<script>") && !page.contains(" onclick"), "{path} has inline code");
    }
}

#[test]
fn assets_are_named_by_content_kept_for_ever_and_compressed() {
    let (_folder, lab) = empty_lab();
    let server = Server::start(&lab, EMPTY);
    let page = server.get("/").1;
    for ending in [".js\"", ".css\""] {
        let end = page.find(ending).unwrap_or_else(|| panic!("no {ending} in {page}")) + ending.len() - 1;
        let start = page[..end].rfind('"').unwrap() + 1;
        let path = &page[start..end];
        let plain = server.open(path, &[]);
        assert!(
            plain.head.contains("immutable") && !plain.head.contains("content-encoding"),
            "{}",
            plain.head
        );
        let plain = plain.bytes();
        let packed = server.open(path, &[("Accept-Encoding", "gzip")]);
        assert!(packed.head.contains("content-encoding: gzip"));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.bytes().as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(plain, unpacked, "{path}");
    }
    assert_eq!(server.get("/assets/app.00000000.js").0, 404);
}

#[test]
fn pages_are_compressed_for_who_takes_it() {
    let (_folder, lab) = empty_lab();
    let server = Server::start(&lab, EMPTY);
    let packed = server.open("/", &[("Accept-Encoding", "gzip")]);
    assert!(packed.head.contains("content-encoding: gzip"));
    let mut page = String::new();
    flate2::read::GzDecoder::new(packed.bytes().as_slice()).read_to_string(&mut page).unwrap();
    assert_eq!(page, server.get("/").1);
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let (_folder, lab) = empty_lab();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { port: taken.local_addr().unwrap().port(), ..Config::default() };
    let ready = |_| panic!("the port is taken");
    let error = serve(site(lab), &config, ready, &Cancel::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unavailable);
    assert!(error.to_string().contains(&format!("127.0.0.1:{}", config.port)), "{error}");
    assert!(error.hint().unwrap().contains("--port"));
}

#[test]
fn the_network_sees_the_lab_only_when_the_user_says_so() {
    let (_folder, lab) = empty_lab();
    for host in ["0.0.0.0", "[::]"] {
        let config = Config { host: host.to_owned(), port: 0, ..Config::default() };
        let ready = |_| panic!("it must not listen on {host}");
        let error = serve(site(lab.clone()), &config, ready, &Cancel::default()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("listen on `{host}`: ")), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Usage);
        assert!(error.hint().unwrap().contains("--open-to-network"));
    }
    let config = Config { host: "0.0.0.0".to_owned(), port: 0, open_to_network: true };
    let cancel = Cancel::default();
    serve(site(lab), &config, |_| cancel.cancel(), &cancel).unwrap();
    assert!(cancel.is_cancelled());
}

#[test]
fn it_stops_when_asked() {
    let (_folder, lab) = empty_lab();
    let server = Server::start(&lab, EMPTY);
    assert_eq!(server.get("/").0, 200);
    server.stop().unwrap();
}
