//! Targets that are broken in every way, all at once, and healthy ones among them.

use super::*;

/// Sends these bytes for ever, one by one or as fast as they are taken.
async fn endless(first: &'static [u8], rest: &'static [u8]) -> Server {
    Server::new(move |mut stream| async move {
        if read_head(&mut stream).await.is_none() || stream.write_all(first).await.is_err() {
            return;
        }
        while stream.write_all(rest).await.is_ok() {
            if rest.len() == 1 {
                // Slow: each byte for itself, and time in between for the others.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_targets_delay_no_healthy_ones() {
    const HEALTHY: usize = 100;
    const ROUNDS: usize = 6;
    let hanging = Server::hanging().await;
    let slow_head = endless(b"HTTP/1.1 200 OK\r\n", b"x").await;
    let slow_body = endless(b"HTTP/1.1 503 Down\r\ncontent-length: 1000000\r\n\r\n", b"x").await;
    let huge = endless(b"HTTP/1.1 500 Huge\r\ncontent-length: 1073741824\r\n\r\n", &[b'x'; 16 * 1024]).await;
    let redirect = Server::answering(
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let rude = Server::new(|stream| async move { drop(stream) }).await;
    let (distrusted, _) = wire::tls_server().await;
    let healthy = Server::answering(OK).await;
    let port = healthy.address.port();

    let mut targets: Vec<Target> =
        (0..1_000).map(|id| target(&format!("hanging {id}"), hanging.url())).collect();
    for id in 0..20 {
        let bad = [
            ("slow head", slow_head.url()),
            ("slow body", slow_body.url()),
            ("huge", huge.url()),
            ("redirect", redirect.url()),
            ("broken certificate", distrusted.url().replace("http", "https")),
            ("hanging name", format!("http://hanging-{id}.example:{port}/")),
            ("unknown name", format!("http://unknown-{id}.example:{port}/")),
            ("rude", rude.url()),
            ("forbidden", "http://169.254.169.254/".to_owned()),
            ("nonsense", "\u{0}http://".to_owned()),
        ];
        targets.extend(bad.map(|(kind, url)| target(&format!("{kind} {id}"), url)));
    }
    let names: Vec<String> = (0..HEALTHY).map(|id| format!("healthy {id}")).collect();
    targets.extend(names.iter().map(|id| target(id, healthy.url())));

    let mut probing = Probing::new(settings());
    probing.prober.replace(targets);
    let seen = probing
        .until("some rounds of the healthy", |seen| names.iter().all(|id| seen.alive(id) >= ROUNDS))
        .await;

    // They had the same interval, and so the same number of probes, but for one at either end and what a busy machine
    // left out.
    let most = names.iter().map(|id| seen.alive(id)).max().unwrap();
    assert!(most <= ROUNDS + 3, "one had {most} probes when the last had {ROUNDS}");
    assert_eq!(seen.alive.len(), HEALTHY, "only they are alive");
    for outcome in Outcome::ALL {
        assert!(seen.outcomes(outcome) > 0, "{outcome:?}: {seen:?}");
    }
}
