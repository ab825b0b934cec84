//! Where probes go, and where they don't.

use super::*;

/// 127.0.0.1 is permitted and 127.0.0.2 is not.
fn one_of_two() -> ProbeSettings {
    let addresses = AddressPolicy::new(vec!["127.0.0.2/32".parse().unwrap()], Vec::new());
    ProbeSettings { addresses, ..settings() }
}

/// Servers on both addresses, at the same port.
async fn permitted_and_forbidden() -> (Server, Server) {
    let answer = |mut stream: TcpStream| async move {
        while read_head(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
        }
    };
    let permitted = Server::at("127.0.0.1:0", answer).await;
    let forbidden = Server::at(&format!("127.0.0.2:{}", permitted.address.port()), answer).await;
    (permitted, forbidden)
}

#[tokio::test]
async fn a_name_needs_a_permitted_address() {
    let (permitted, forbidden) = permitted_and_forbidden().await;
    let names = Names::of(&[
        ("good", &[&["127.0.0.1"]]),
        ("bad", &[&["127.0.0.2"]]),
        ("mapped", &[&["::ffff:127.0.0.2"]]),
        ("both", &[&["127.0.0.2", "127.0.0.1"]]),
        ("nothing", &[&[]]),
    ]);
    let mut probing = Probing::with(one_of_two(), names, RootCertStore::empty());
    let cases = [
        ("good", Outcome::Success),
        ("bad", Outcome::Refused),
        ("mapped", Outcome::Refused),
        ("both", Outcome::Success),
        ("nothing", Outcome::Resolve),
        ("unknown", Outcome::Resolve),
    ];
    for (name, expected) in cases {
        let url = format!("http://{name}:{}/", permitted.address.port());
        assert_eq!(probing.outcome_of(url).await, expected, "{name}");
    }
    assert_eq!((permitted.accepted(), forbidden.accepted()), (2, 0));
}

#[tokio::test]
async fn a_name_that_moves_to_a_forbidden_address_is_refused_from_then_on() {
    let (permitted, forbidden) = permitted_and_forbidden().await;
    let names = Names::of(&[("node", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    // Without kept connections, each probe looks the name up.
    let settings = ProbeSettings { idle_connections: 0, ..one_of_two() };
    let mut probing = Probing::with(settings, names, RootCertStore::empty());
    probing.set("a", format!("http://node:{}/", permitted.address.port()));
    let seen = probing.until("two refusals", |seen| seen.outcomes(Outcome::Refused) == 2).await;
    assert_eq!(seen.alive("a"), 1);
    assert_eq!((permitted.accepted(), forbidden.accepted()), (1, 0));
}

#[tokio::test]
async fn an_address_that_nobody_has_leaves_time_for_the_next() {
    let server = Server::answering(OK).await;
    // Nobody listens there.
    let names = Names::of(&[("node", &[&["127.0.0.3", "::1", "127.0.0.1"]])]);
    let mut probing = Probing::with(settings(), names, RootCertStore::empty());
    let url = format!("http://node:{}/", server.address.port());
    assert_eq!(probing.outcome_of(url).await, Outcome::Success);
}

#[tokio::test]
async fn no_spelling_of_a_forbidden_address_gets_through() {
    let urls = [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://169.254.169.254./",
        "http://169。254。169。254/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://0/",
        "http://0.0.0.0/",
        "http://[::]/",
        "https://169.254.169.254/",
        "http://user:secret@127.0.0.1/",
        "gopher://127.0.0.1/",
        "not a url",
        "",
    ];
    let mut probing = Probing::new(settings());
    for (number, url) in urls.iter().enumerate() {
        probing.set(&number.to_string(), *url);
    }
    let all = |seen: &Seen| seen.outcomes.values().sum::<usize>() >= urls.len();
    let seen = probing.until("all outcomes", all).await;
    assert_eq!(seen.outcomes.keys().collect::<Vec<_>>(), [&Outcome::Refused.as_str()]);
}
