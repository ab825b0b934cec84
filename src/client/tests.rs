//! What is taken and what is refused, without a server.

use super::settings::BaseUrl;
use super::sse::{Message, Reader};
use super::{Query, node_path};

#[test]
fn an_id_is_one_segment_whatever_is_in_it() {
    assert_eq!(node_path("a/b?c#d%"), "/v1/nodes/a%2Fb%3Fc%23d%25");
    assert_eq!(node_path(".."), "/v1/nodes/..");
    assert_eq!(node_path("é\u{202e}"), "/v1/nodes/%C3%A9%E2%80%AE");
}

#[test]
fn a_query_names_what_it_is_given() {
    let mut query = Query::new();
    query.add("node_type", "effect");
    query.add("node_type", "a&b=c");
    query.set("limit", "7");
    query.set("limit", "8");
    assert_eq!(query.after("/v1/nodes"), "/v1/nodes?node_type=effect&node_type=a%26b%3Dc&limit=8");
}

#[test]
fn an_address_is_one_of_a_server_and_has_no_password_in_it() {
    let parsed = |text: &str| text.parse::<BaseUrl>().map(|url| url.uri("/v1/nodes"));
    assert_eq!(parsed("http://h:8080/").as_deref(), Ok("http://h:8080/v1/nodes"));
    assert_eq!(parsed("https://h/a/b").as_deref(), Ok("https://h/a/b/v1/nodes"));
    for wrong in
        ["", "h:8080", "ftp://h", "http://", "http://u:hunter2@h", "http://h?x", "http://h#x", "file:///x"]
    {
        let said = parsed(wrong).expect_err(wrong);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

fn read(parts: &[&str]) -> (Vec<Message>, Reader) {
    let mut reader = Reader::default();
    for part in parts {
        reader.push(part.as_bytes()).unwrap();
    }
    (std::iter::from_fn(|| reader.next()).collect(), reader)
}

fn message(name: &str, data: &str) -> Message {
    Message { name: name.to_owned(), data: data.to_owned() }
}

#[test]
fn a_stream_is_read_by_the_rules_wherever_it_is_cut() {
    let stream = "retry: 1000\nid: 41\n\n:\n\nevent: change\r\nid: 42\r\ndata: {\"a\":1}\r\n\r\ndata:x\rdata: y\r\rid: 43\nevent: cut";
    let expected = [message("change", r#"{"a":1}"#), message("", "x\ny")];
    for cut in 0..stream.len() {
        let (messages, reader) = read(&[&stream[..cut], &stream[cut..]]);
        assert_eq!(messages, expected, "{cut}");
        assert_eq!(reader.last_id.as_deref(), Some("42"), "what has not ended did not come");
        assert_eq!(reader.retry, Some(std::time::Duration::from_secs(1)));
    }
}

#[test]
fn an_id_may_be_taken_back() {
    let (messages, reader) = read(&["id: 7\n\n", "event: closing\nid\nretry: x\ndata: {}\n\n"]);
    assert_eq!(messages, [message("closing", "{}")]);
    assert_eq!((reader.last_id.as_deref(), reader.retry), (Some(""), None));
}

#[test]
fn a_line_without_end_is_refused() {
    let mut reader = Reader::default();
    let piece = vec![b'x'; 1024 * 1024];
    assert!((0..20).any(|_| reader.push(&piece).is_err()));
}
