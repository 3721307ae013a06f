//! Documents: pre-signed links, the host they lead to, and large bodies.

use std::io::Read as _;

use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use aws_lc_rs::digest;

use crate::support::{Answer, call, fields, get, legacy_token, post_form, send, token};

const MIB: usize = 1024 * 1024;

/// The bytes at a URL, and the length it promised.
fn download(url: &str, token: &str) -> (Vec<u8>, String) {
    let mut request = ureq::get(url);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = request.call().unwrap();
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let promised = answer.headers()["content-length"].to_str().unwrap().to_owned();
    let mut bytes = Vec::new();
    answer.into_body().into_reader().read_to_end(&mut bytes).unwrap();
    (bytes, promised)
}

fn links(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let items = answer.json()["Items"].as_array().unwrap().clone();
    items.iter().map(|item| item["DownloadUrl"].as_str().unwrap().to_owned()).collect()
}

fn token_for(sandbox: &Sandbox, scope: &str) -> String {
    let application = Application::new("other", "s", "va336").with_scopes([scope]);
    sandbox.add(application.clone());
    post_form(&sandbox.token_url(), &fields(&application)).token()
}

#[test]
fn documents_of_a_load_come_with_pre_signed_links_to_this_server() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let answer = get(&format!("{}/loads/load-1/documents", sandbox.api_url()), &token);
    assert_eq!(answer.json()["Total"], 3);
    assert_eq!(answer.json()["Items"][0]["Id"], "document-1");
    let links = links(&answer);
    assert!(links[0].starts_with(&format!("{}/storage/document-1?signature=", sandbox.url())));
    assert_ne!(links[0].split_once('=').unwrap().1, links[1].split_once('=').unwrap().1);
    let (bytes, _) = download(&links[0], "");
    assert_eq!(bytes.len(), 1024);
    let last = get(&format!("{}/loads/load-1/documents?page=1&pageSize=2", sandbox.api_url()), &token);
    assert_eq!(last.json()["Items"].as_array().unwrap().len(), 1);
    assert_eq!(get(&format!("{}/loads/load-9/documents", sandbox.api_url()), &token).status, 404);
}

#[test]
fn a_download_is_a_redirect_to_a_pre_signed_link() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let answer = get(&format!("{}/documents/document-2/download", sandbox.api_url()), &token);
    assert_eq!((answer.status, answer.body.as_str()), (302, ""));
    let link = answer.header("location");
    assert!(link.starts_with(&format!("{}/storage/document-2?signature=", sandbox.url())), "{link}");
    assert_eq!(download(link, "").0.len(), 1024);
    assert_eq!(get(&format!("{}/documents/document-9/download", sandbox.api_url()), &token).status, 404);
}

#[test]
fn links_lead_to_the_document_host_a_test_chose() {
    let (sandbox, host) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    sandbox.set_document_host(format!("{}/", host.url()));
    let token = token(&sandbox);
    let listed = links(&get(&format!("{}/loads/load-1/documents", sandbox.api_url()), &token)).remove(0);
    let redirect = get(&format!("{}/documents/document-1/download", sandbox.api_url()), &token);
    for link in [listed.as_str(), redirect.header("location")] {
        assert!(link.starts_with(&format!("{}/storage/document-1?signature=", host.url())), "{link}");
        download(link, "");
    }
    let arrived = host.requests();
    assert_eq!(arrived.len(), 2);
    assert_eq!(arrived[0].route(), Route::Storage);
    assert_eq!(arrived[0].path(), "/storage/document-1");
    assert!(arrived[0].query().unwrap().starts_with("signature="));
    assert_eq!(arrived[0].header("authorization"), None);
    assert_eq!(host.api_requests(), 0);
}

#[test]
fn the_document_host_refuses_a_bearer_token_and_an_unsigned_link() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let url = format!("{}/storage/document-1", sandbox.url());
    let signed = format!("{url}?signature=x");
    assert_eq!(get(&signed, &token).status, 400);
    assert_eq!(get(&url, &token).status, 400);
    assert_eq!(sandbox.requests().last().unwrap().header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(send("GET", &url, &[], "").status, 403);
    assert_eq!(send("GET", &format!("{url}?signature="), &[], "").status, 403);
    assert_eq!(send("POST", &signed, &[], "").status, 405);
    assert_eq!(download(&signed, "").0.len(), 1024);
}

#[test]
fn documents_are_for_those_who_may_read_or_create_loads() {
    let sandbox = Sandbox::start().unwrap();
    let api = sandbox.api_url();
    let (list, item) = (format!("{api}/loads/load-1/documents"), format!("{api}/documents/document-1"));
    let download = format!("{item}/download");
    let (reader, creator) = (token_for(&sandbox, "load:read"), token_for(&sandbox, "load:create"));
    for url in [&list, &format!("{item}?bytes=0"), &download] {
        assert!([200, 302].contains(&get(url, &reader).status), "{url}");
        assert!([200, 302].contains(&get(url, &legacy_token(&sandbox)).status), "{url}");
        let refused = get(url, &creator);
        assert_eq!(refused.status, 403, "{url}");
        assert!(refused.header("www-authenticate").contains("load:read"));
        assert_eq!(send("GET", url, &[], "").status, 401, "{url}");
        assert_eq!(get(&url.replace("/v1/", "/v9/"), &reader).status, 404, "{url}");
        assert_eq!(call("DELETE", url, &reader, "").status, 405, "{url}");
    }
    let documents = format!("{api}/documents");
    assert_eq!(call("POST", &documents, &creator, "x").status, 201);
    assert!(call("POST", &documents, &reader, "x").header("www-authenticate").contains("load:create"));
    assert_eq!(call("POST", &documents, &legacy_token(&sandbox), "x").status, 403);
}

#[test]
fn a_document_is_as_long_as_asked_for() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let url = format!("{}/documents/document-1", sandbox.api_url());
    for length in [0, 1, 251 * 256, 251 * 256 + 1, 3 * MIB + 7] {
        let (bytes, promised) = download(&format!("{url}?bytes={length}"), &token);
        assert_eq!(promised, length.to_string());
        assert_eq!(bytes.len(), length);
        assert!(bytes.iter().enumerate().all(|(index, byte)| usize::from(*byte) == index % 251));
    }
    let (bytes, _) = download(&format!("{}/storage/document-1?signature=x&bytes={MIB}", sandbox.url()), "");
    assert_eq!(bytes.len(), MIB);
    for bytes in ["", "-1", "x", &(64 * MIB + 1).to_string()] {
        let answer = get(&format!("{url}?bytes={bytes}"), &token);
        assert_eq!(answer.status, 400, "{bytes}");
        assert!(answer.json()["Detail"].as_str().unwrap().contains("bytes"));
    }
    assert_eq!(get(&format!("{}/documents/document-9", sandbox.api_url()), &token).status, 404);
}

#[test]
fn the_longest_document_is_64_mib_in_either_direction() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let url = format!("{}/documents", sandbox.api_url());
    let (bytes, _) = download(&format!("{url}/document-1?bytes={}", 64 * MIB), &token);
    assert_eq!(bytes.len(), 64 * MIB);

    let authorization = format!("Bearer {token}");
    let body = "x".repeat(64 * MIB + 1);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/pdf")];
    let answer = send("POST", &url, &headers, &body[1..]);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["Length"], 64 * MIB);
    assert_eq!(send("POST", &url, &headers, &body).status, 413);
    assert!(sandbox.requests().iter().all(|request| request.body().is_empty() || request.route() == Route::Token));
}

#[test]
fn an_upload_of_any_kind_is_answered_with_what_arrived() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let authorization = format!("Bearer {token}");
    let url = format!("{}/documents", sandbox.api_url());
    for (content_type, body) in [("application/pdf", "%PDF"), ("multipart/form-data; boundary=x", "--x--"), ("a/b", "")]
    {
        let answer = send("POST", &url, &[("authorization", &authorization), ("content-type", content_type)], body);
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["Id"], "document-4");
        assert_eq!(answer.json()["Length"], body.len());
        let hash = digest::digest(&digest::SHA256, body.as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer.json()["Sha256"], hex);
    }
    let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(call("POST", &url, &token, "").json()["Sha256"], known);
    assert_eq!(sandbox.requests()[1].body(), b"%PDF");
}

#[test]
fn a_fault_can_cut_a_document_short() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject(Route::Storage, Fault::truncate());
    let answer = ureq::get(format!("{}/storage/document-1?signature=x", sandbox.url())).call().unwrap();
    assert_eq!(answer.headers()["content-length"], "1024");
    assert!(answer.into_body().read_to_vec().is_err());
}
