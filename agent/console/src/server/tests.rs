//! Requests as the proxy passes them on, good and bad, and what is answered.

use std::net::IpAddr;

use http::header::HeaderMap;
use serde_json::json;

use super::*;

const HOST: &str = "skiff.local:18443";
const ORIGIN: &str = "https://skiff.local:18443";

struct Box {
    server: Server,
    dir: tempfile::TempDir,
    now: Instant,
}

/// An API that has one node and one pod that does not run.
fn client() -> Client {
    let service = tower::service_fn(|request: Request<kube::client::Body>| async move {
        let list = match request.uri().path() {
            "/api/v1/nodes" => json!({"items": [{"metadata": {"name": "skiff"}, "status": {"conditions": [
                {"type": "Ready", "status": "True"}]}}]}),
            "/skiff/v1/problems" => {
                json!([{"about": "application", "text": "pod private/diary: CrashLoopBackOff: it fails"}])
            }
            _ => json!({"items": [{"metadata": {"namespace": "private", "name": "diary"}, "status": {
                "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}]}),
        };
        Ok::<_, Infallible>(Response::new(kube::client::Body::from(list.to_string().into_bytes())))
    });
    Client::new(service, "default")
}

impl Box {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("kubeconfig"), "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n").unwrap();
        let config = Config {
            node_name: "skiff".to_owned(),
            node_address: IpAddr::from([192, 168, 1, 10]),
            version: "0.1.0".to_owned(),
            api_names: vec!["skiff.local".to_owned(), "fd00::1".to_owned()],
            api_port: 6443,
            https_port: 18443,
            kubeconfig: at("kubeconfig"),
            data_dir: dir.path().to_owned(),
            code_file: at("code"),
            fingerprint_file: at("ca-fingerprint"),
            local_name_file: at("local-name"),
        };
        let server = Server::new(config, client(), std::boxed::Box::new(|| Some("AB:CD".to_owned())));
        Self { server, dir, now: Instant::now() }
    }

    fn code(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("code")).unwrap().trim().to_owned()
    }

    async fn ask(&self, request: http::request::Builder, body: impl Into<Bytes>) -> (StatusCode, HeaderMap, String) {
        let answer = self.server.answer(request.body(Full::new(body.into())).unwrap(), self.now).await;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, request: http::request::Builder) -> (StatusCode, String) {
        let (status, _, text) = self.ask(request, "").await;
        (status, text)
    }

    async fn sign_in(&self, code: &str) -> (StatusCode, HeaderMap, String) {
        self.ask(form("/sign-in"), format!("code={code}")).await
    }

    /// The cookie of a new session.
    async fn session(&self) -> String {
        let (status, headers, _) = self.sign_in(&self.code()).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert!(pair.starts_with("__Host-skiff="));
        assert_eq!(attributes, "Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=Strict");
        pair.to_owned()
    }
}

fn plain(path: &str) -> http::request::Builder {
    Request::get(path)
        .header("host", "skiff.local:17080")
        .header("x-forwarded-for", "192.168.1.20")
        .header("x-forwarded-proto", "http")
}

fn secure(path: &str) -> http::request::Builder {
    Request::get(path)
        .header("host", HOST)
        .header("x-forwarded-for", "192.168.1.20")
        .header("x-forwarded-proto", "https")
}

fn form(path: &str) -> http::request::Builder {
    secure(path).method("POST").header("origin", ORIGIN).header("content-type", "application/x-www-form-urlencoded")
}

#[tokio::test]
async fn the_code_opens_the_kubeconfig_once() {
    let test = Box::new();
    let code = test.code();
    let cookie = test.session().await;
    assert_ne!(test.code(), code);
    assert_eq!(test.sign_in(&code).await.0, StatusCode::UNAUTHORIZED);

    let (status, text) = test.get(secure("/kubeconfig").header("cookie", format!("a=b; {cookie}"))).await;
    assert_eq!((status, text.lines().last()), (StatusCode::OK, Some("    server: https://skiff.local:6443")));
    let (_, text) = test.get(secure("/").header("cookie", &cookie)).await;
    assert!(text.contains("private/diary"));

    let (status, headers, _) = test.ask(form("/sign-out").header("cookie", &cookie), "").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(headers[header::SET_COOKIE].to_str().unwrap().starts_with("__Host-skiff=; Max-Age=0;"));
    assert_eq!(test.get(secure("/kubeconfig").header("cookie", &cookie)).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_file_of_the_code_is_for_root() {
    use std::os::unix::fs::PermissionsExt;
    let test = Box::new();
    let mode = std::fs::metadata(test.dir.path().join("code")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn nothing_secret_goes_over_plain_http() {
    let test = Box::new();
    let (status, text) = test.get(plain("/")).await;
    assert!(status == StatusCode::OK && text.contains("https://skiff.local:18443/sign-in") && !text.contains("diary"));
    let cookie = test.session().await;
    for path in ["/sign-in", "/kubeconfig", "/sign-out"] {
        let (status, text) = test.get(plain(path).header("cookie", &cookie)).await;
        assert!(status == StatusCode::FORBIDDEN && !text.contains("<form"), "{path}: {status} {text}");
    }
    let right = format!("code={}", test.code());
    let posted = plain("/sign-in").method("POST").header("origin", "http://skiff.local:17080");
    assert_eq!(test.ask(posted, right).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn guessing_ends_soon() {
    let mut test = Box::new();
    for _ in 0..5 {
        assert_eq!(test.sign_in("0000-0000").await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, headers, text) = test.sign_in(&test.code()).await;
    assert_eq!((status, headers[header::RETRY_AFTER].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "10"));
    assert!(text.contains("Try again in 10 s."), "{text}");
    test.now += Duration::from_secs(10);
    test.session().await;
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let test = Box::new();
    let right = format!("code={}", test.code());
    let strip = |request: http::request::Builder, name: &str| {
        let mut request = request;
        request.headers_mut().unwrap().remove(name);
        request
    };
    let posts = [
        (strip(form("/sign-in"), "origin"), right.clone(), StatusCode::FORBIDDEN),
        (strip(form("/sign-in"), "origin").header("origin", "null"), right.clone(), StatusCode::FORBIDDEN),
        (
            strip(form("/sign-in"), "origin").header("origin", "https://evil.example"),
            right.clone(),
            StatusCode::FORBIDDEN,
        ),
        (strip(form("/sign-out"), "origin"), String::new(), StatusCode::FORBIDDEN),
        (strip(form("/sign-in"), "content-type"), right.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            strip(form("/sign-in"), "content-type").header("content-type", "application/json"),
            right.clone(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (form("/sign-in"), format!("{right}&pad={}", "x".repeat(4096)), StatusCode::PAYLOAD_TOO_LARGE),
        (form("/sign-in"), "pin=1".to_owned(), StatusCode::BAD_REQUEST),
        (form("/sign-in"), String::new(), StatusCode::BAD_REQUEST),
        (form("/"), right.clone(), StatusCode::METHOD_NOT_ALLOWED),
        (form("/kubeconfig"), right.clone(), StatusCode::METHOD_NOT_ALLOWED),
    ];
    for (request, body, expected) in posts {
        let what = format!("{request:?}");
        assert_eq!(test.ask(request, body).await.0, expected, "{what}");
    }
    let latin = Bytes::from_static(b"code=\xff\xfe");
    assert_eq!(test.ask(form("/sign-in"), latin).await.0, StatusCode::BAD_REQUEST);
    for path in ["/../kubeconfig", "/%2e%2e/code", "/code", "/console.css/../../code", "/sign-in/", "//"] {
        assert_eq!(test.get(secure(path)).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for cookie in ["__Host-skiff=", "__Host-skiff=x", "skiff=1", ";;;=", "__Host-skiff"] {
        assert_eq!(test.get(secure("/kubeconfig").header("cookie", cookie)).await.0, StatusCode::UNAUTHORIZED);
    }
    for missing in ["host", "x-forwarded-for", "x-forwarded-proto"] {
        assert_eq!(test.get(strip(secure("/"), missing)).await.0, StatusCode::BAD_REQUEST, "{missing}");
    }
    // None of them used the code up.
    test.session().await;
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let test = Box::new();
    for request in [plain("/"), secure("/"), secure("/sign-in"), secure("/nothing"), secure("/console.css")] {
        let (_, headers, _) = test.ask(request, "").await;
        assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
    }
}

#[tokio::test]
async fn the_kubeconfig_names_what_the_certificate_names() {
    let test = Box::new();
    let render = |host| kubeconfig::render("    server: https://127.0.0.1:6443\n", host, &test.server.config);
    assert_eq!(render("skiff.local"), "    server: https://skiff.local:6443\n");
    assert_eq!(render("fd00::1"), "    server: https://[fd00::1]:6443\n");
    assert_eq!(render("evil.example\nx: y"), "    server: https://192.168.1.10:6443\n");
}

#[tokio::test]
async fn only_the_names_of_the_box_are_answered() {
    let test = Box::new();
    std::fs::write(test.dir.path().join("local-name"), "skiff-2.local\n").unwrap();
    let called = |host: &str| {
        let request = Request::get("/").header("host", host).header("x-forwarded-for", "192.168.1.20");
        request.header("x-forwarded-proto", "https")
    };
    for host in ["skiff.local", "SKIFF.local:18443", "skiff-2.local", "192.168.1.10:18443", "127.0.0.1", "[::1]"] {
        assert_eq!(test.get(called(host)).await.0, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "skiff.local.evil.example", "app.skiff.local", "198.51.100.7", "[2001:db8::1]", "a b"]
    {
        let (status, text) = test.get(called(host)).await;
        let expected = if host == "a b" { StatusCode::BAD_REQUEST } else { StatusCode::MISDIRECTED_REQUEST };
        assert!(status == expected && !text.contains("diary"), "{host}: {status}");
    }
}

#[tokio::test]
async fn a_session_is_for_the_name_it_was_made_for() {
    let test = Box::new();
    let cookie = test.session().await;
    let ask = |host: &str| {
        let request = Request::get("/kubeconfig").header("host", host).header("cookie", &cookie);
        request.header("x-forwarded-for", "192.168.1.20").header("x-forwarded-proto", "https")
    };
    assert_eq!(test.get(ask("192.168.1.10:18443")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(test.get(ask("localhost:18443")).await.0, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(test.get(ask(HOST)).await.0, StatusCode::OK);
}
