//! How many probes are under way, and what becomes of the slow ones.

use tokio::sync::{Notify, mpsc};

use super::*;

/// Look-ups that never end, counted.
#[derive(Clone, Default)]
struct Endless {
    present: Arc<AtomicUsize>,
    most: Arc<watch::Sender<usize>>,
}

struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Resolve for Endless {
    async fn resolve(&self, _name: &str) -> Result<Vec<IpAddr>, String> {
        let present = self.present.fetch_add(1, Ordering::SeqCst) + 1;
        let _leave = Leave(Arc::clone(&self.present));
        self.most.send_modify(|most| *most = present.max(*most));
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_probes_are_under_way_than_may_be() {
    let names = Endless::default();
    let settings = ProbeSettings { concurrency: 16, ..settings() };
    let mut probing = Probing::with(settings, names.clone(), RootCertStore::empty());
    probing.prober.replace((0..100).map(|id| target(&id.to_string(), "http://endless/")).collect());
    // The first round is given up quickly; then all are in the failing lane.
    probing.until("time-outs", |seen| seen.outcomes(Outcome::Timeout) >= 110).await;
    let most = *names.most.borrow();
    assert!((12..=16).contains(&most), "{most} at a time");
}

#[tokio::test]
async fn a_slow_probe_goes_on_elsewhere_if_there_is_room_and_is_given_up_if_not() {
    let go = Arc::new(Notify::new());
    let asked = Arc::new(Notify::new());
    let slow = {
        let (go, asked) = (Arc::clone(&go), Arc::clone(&asked));
        Server::new(move |mut stream| {
            let (go, asked) = (Arc::clone(&go), Arc::clone(&asked));
            async move {
                if read_head(&mut stream).await.is_some() {
                    asked.notify_one();
                    go.notified().await;
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await
    };
    let hanging = Server::hanging().await;
    let quick = Server::answering(OK).await;
    let mut probing = Probing::new(ProbeSettings { concurrency: 2, ..patient() });

    probing.set("slow", slow.url());
    timeout(LIMIT, asked.notified()).await.unwrap();
    // Only one slot is for healthy targets: that the next one is probed shows that the slow one has left it.
    probing.set("quick", quick.url());
    probing.until("the quick one", |seen| seen.alive("quick") == 1).await;
    assert_eq!(probing.seen().outcomes.len(), 1, "the slow one is still under way");
    // It takes the only other slot.
    probing.set("hanging", hanging.url());
    probing.until("that it is given up", |seen| seen.outcomes(Outcome::Timeout) == 1).await;
    go.notify_one();
    probing.until("the slow one", |seen| seen.alive("slow") == 1).await;
}

#[tokio::test]
async fn nothing_is_reported_of_what_is_no_target_any_longer() {
    let go = Arc::new(Notify::new());
    let (asking, mut asked) = watch::channel(0);
    let asking = Arc::new(asking);
    let server = {
        let go = Arc::clone(&go);
        Server::new(move |mut stream| {
            let (go, asking) = (Arc::clone(&go), Arc::clone(&asking));
            async move {
                read_head(&mut stream).await.unwrap();
                asking.send_modify(|asking| *asking += 1);
                go.notified().await;
                let _ = stream.write_all(OK).await;
            }
        })
        .await
    };
    let other = Server::answering(OK).await;

    for forget_all in [false, true] {
        let mut probing = Probing::new(patient());
        let before = *asked.borrow();
        for id in ["a", "b", "c"] {
            probing.set(id, server.url());
        }
        timeout(LIMIT, asked.wait_for(|asking| *asking == before + 3)).await.unwrap().unwrap();
        if forget_all {
            probing.prober.clear();
        } else {
            probing.prober.forget(&node("a"));
            probing.set("b", other.url());
            probing.prober.replace(vec![target("b", other.url())]);
        }
        go.notify_waiters();
        probing.set("b", other.url());
        probing.until("the one that is left", |seen| seen.alive("b") == 1).await;
        assert_eq!(probing.seen().outcomes.values().sum::<usize>(), 1);
        timeout(LIMIT, probing.prober.close()).await.unwrap();
    }
}

/// Says when it was asked and when the connection has ended.
async fn telling(answer: &'static [u8], tell: &mpsc::Sender<&'static str>) -> Server {
    let tell = tell.clone();
    Server::new(move |mut stream| {
        let tell = tell.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                let _ = tell.send("asked").await;
                stream.write_all(answer).await.unwrap();
            }
            let _ = tell.send("ended").await;
        }
    })
    .await
}

#[tokio::test]
async fn close_ends_what_is_under_way_and_all_connections() {
    let (tell, mut told) = mpsc::channel(1);
    let (hanging, healthy) = (telling(b"", &tell).await, telling(OK, &tell).await);
    let mut probing = Probing::new(patient());
    probing.set("hanging", hanging.url());
    probing.set("healthy", healthy.url());
    for expected in ["asked", "asked"] {
        assert_eq!(timeout(LIMIT, told.recv()).await.unwrap(), Some(expected));
    }
    probing.until("a success", |seen| seen.alive("healthy") == 1).await;
    timeout(LIMIT, probing.prober.close()).await.unwrap();
    for expected in ["ended", "ended"] {
        assert_eq!(timeout(LIMIT, told.recv()).await.unwrap(), Some(expected));
    }
    assert_eq!(probing.seen().outcomes.values().sum::<usize>(), 1);
}
