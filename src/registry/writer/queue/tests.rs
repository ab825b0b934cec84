use super::*;

/// An item as a test has it: what it is, and its name; those that joined it are in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thing {
    class: Class,
    name: String,
    callers: usize,
    bytes: usize,
}

impl Item for Thing {
    fn class(&self) -> Class {
        self.class
    }

    fn callers(&self) -> usize {
        self.callers
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn join(&mut self, other: Self) {
        assert_eq!((self.class, other.class), (Class::Heartbeat, Class::Heartbeat));
        self.name.push_str(&other.name);
        self.callers += other.callers;
        self.bytes += other.bytes;
    }
}

fn id(name: &str) -> NodeKey {
    NodeKey::new(name).unwrap()
}

const WRITES: Slot = Slot { lane: Lane::Writes, aside: false };
const HEARTBEATS: Slot = Slot { lane: Lane::Heartbeats, aside: false };
const HELD: Slot = Slot { lane: Lane::Writes, aside: true };

/// A queue, and a time that is driven.
struct Setting {
    queue: Queue<Thing>,
    now: Instant,
}

impl Setting {
    fn new() -> Self {
        Self::with(Limits { under_way: 1, ..Limits::default() })
    }

    fn with(limits: Limits) -> Self {
        Self { queue: Queue::new(limits), now: Instant::now() }
    }

    fn push(&mut self, node: &str, class: Class, name: &str) {
        let thing = Thing { class, name: name.to_owned(), callers: 1, bytes: 10 };
        self.queue.push(id(node), thing, self.now);
    }

    /// The first letter of a name says what it is.
    fn push_all(&mut self, names: &[(&str, &str)]) {
        for (node, name) in names {
            let class = match name.chars().next() {
                Some('d') => Class::Deregister,
                Some('m') => Class::Maintain,
                Some('h') => Class::Heartbeat,
                _ => Class::Register,
            };
            self.push(node, class, name);
        }
    }

    /// The names in the next batch, and the batch.
    fn start(&mut self) -> Option<(Vec<String>, Batch<Thing>)> {
        let batch = self.queue.start(self.now)?;
        let distinct: std::collections::HashSet<_> = batch.ids.iter().collect();
        assert_eq!((distinct.len(), batch.items.len()), (batch.ids.len(), batch.ids.len()));
        assert!(batch.items.iter().all(|item| item.class == batch.class));
        Some((batch.items.iter().map(|item| item.name.clone()).collect(), batch))
    }

    fn names(&mut self) -> (Vec<String>, Batch<Thing>) {
        self.start().expect("something is ready, and there is a place for it")
    }

    fn end(&mut self, batch: Batch<Thing>) {
        self.queue.ended(batch.slot);
        for id in batch.ids {
            self.queue.release(id);
        }
    }

    /// All items of the batch go aside.
    fn hold(&mut self, batch: Batch<Thing>) {
        self.queue.ended(batch.slot);
        for (id, item) in batch.ids.into_iter().zip(batch.items) {
            self.queue.put_aside(id, item, self.now);
        }
    }

    /// One batch after the other, until nothing waits.
    fn drain(&mut self) -> Vec<Vec<String>> {
        let mut batches = Vec::new();
        while let Some((names, batch)) = self.start() {
            batches.push(names);
            self.end(batch);
        }
        assert!(self.queue.lines.is_empty(), "nothing is left of ids that nobody waits for");
        assert_eq!((self.queue.waiting, self.queue.bytes, self.queue.under_way), ([0; 2], [0; 2], [0; 4]));
        assert_eq!((self.queue.held_size.callers, self.queue.held_size.bytes), (0, 0));
        batches
    }

    fn has_room(&self, callers: usize, bytes: usize) -> bool {
        self.queue.has_room(Lane::Writes, callers, bytes, self.now)
    }

    fn dropped(&mut self) -> Vec<(String, Dropped)> {
        self.queue.take_dropped().into_iter().map(|(thing, why)| (thing.name, why)).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn what_is_asked_for_one_id_is_done_in_order_and_never_together() {
    let mut setting = Setting::with(Limits { under_way: 2, ..Limits::default() });
    setting.push_all(&[("a", "r1"), ("b", "r2"), ("a", "r3"), ("a", "d4"), ("a", "r5"), ("c", "d6")]);
    let (names, first) = setting.names();
    assert_eq!(names, ["r1", "r2"]);
    let (names, second) = setting.names();
    assert_eq!(names, ["d6"]);
    assert!(setting.start().is_none(), "two are under way");
    setting.end(second);
    assert!(setting.start().is_none(), "what waits is for an id that is under way");
    setting.end(first);
    assert_eq!(setting.drain(), [["r3"], ["d4"], ["r5"]]);
}

#[test]
fn signs_of_life_of_one_id_that_wait_together_are_one() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "h1"), ("b", "h2"), ("a", "h3"), ("a", "h4")]);
    assert_eq!(setting.queue.waiting(Lane::Heartbeats), 4);
    let (names, batch) = setting.names();
    assert_eq!(names, ["h1h3h4", "h2"]);
    assert_eq!(setting.queue.waiting(Lane::Heartbeats), 0);
    // One that comes now was given after the batch began, and counts from the next.
    setting.push_all(&[("a", "h5")]);
    assert!(setting.start().is_none());
    setting.end(batch);
    assert_eq!(setting.drain(), [["h5"]]);
}

#[test]
fn a_sign_of_life_and_writes_of_one_id_take_turns() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1"), ("a", "r2"), ("a", "h3"), ("a", "r4")]);
    let (names, batch) = setting.names();
    assert_eq!(names, ["r1"]);
    setting.push_all(&[("a", "h5")]);
    setting.end(batch);
    let (names, batch) = setting.names();
    assert_eq!((names.as_slice(), batch.slot), (["h3h5".to_owned()].as_slice(), HEARTBEATS));
    setting.push_all(&[("a", "h6")]);
    setting.end(batch);
    assert_eq!(setting.drain(), [["r2"], ["h6"], ["r4"]]);
}

#[test]
fn lanes_dont_wait_for_each_other() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1"), ("b", "r2"), ("b", "h3"), ("c", "h4")]);
    let (names, writes) = setting.names();
    assert_eq!(names, ["r1", "r2"]);
    let (names, heartbeats) = setting.names();
    assert_eq!(names, ["h4"]);
    setting.end(writes);
    assert!(setting.start().is_none(), "the place for signs of life is taken");
    setting.end(heartbeats);
    assert_eq!(setting.drain(), [["h3"]]);
}

#[test]
fn the_class_that_has_been_ready_for_longest_is_next() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1"), ("a", "r2"), ("b", "d3"), ("c", "m4"), ("d", "r5"), ("e", "d6")]);
    // Whatever comes meanwhile.
    let mut batches = Vec::new();
    for round in 0..6 {
        let (names, batch) = setting.names();
        setting.push(&format!("n{round}"), Class::Register, &format!("new{round}"));
        setting.end(batch);
        batches.push(names.join(" "));
    }
    assert_eq!(batches[..4], ["r1 r5", "d3 d6", "m4", "new0 r2 new1 new2"]);
}

#[test]
fn an_id_with_many_that_wait_holds_up_nobody() {
    let mut setting = Setting::new();
    for _ in 0..10_000 {
        setting.push("hot", Class::Register, "hot");
    }
    for node in 0..5 {
        setting.push(&format!("n{node}"), Class::Deregister, &format!("d{node}"));
    }
    let (first, batch) = setting.names();
    assert_eq!(first, ["hot"], "and what it takes to make this batch doesn't depend on the others");
    setting.end(batch);
    assert_eq!(setting.queue.ready.iter().map(VecDeque::len).sum::<usize>(), 6);
    let (second, batch) = setting.names();
    assert_eq!(second.len(), 5);
    setting.end(batch);
    assert_eq!(setting.drain().len(), 9_999);
}

#[test]
fn what_may_wait_is_bounded() {
    let limits = Limits { writes: Size { callers: 3, bytes: 100 }, ..Limits::default() };
    let mut setting = Setting::with(limits);
    assert!(setting.has_room(3, 100));
    assert!(!setting.has_room(4, 100) && !setting.has_room(3, 101));
    setting.push_all(&[("a", "r1"), ("b", "r2"), ("c", "h3")]);
    assert!(setting.has_room(1, 80) && !setting.has_room(2, 1));
    assert!(!setting.queue.is_half_empty(Lane::Writes));
    let (_, batch) = setting.names();
    assert!(setting.has_room(3, 100), "what is under way doesn't wait");
    assert!(setting.queue.is_half_empty(Lane::Writes));
    setting.end(batch);
    setting.drain();
}

#[test]
fn of_many_who_wait_for_long_there_are_no_more() {
    let limits = Limits { crowd_of_writes: 2, under_way: 1, ..Limits::default() };
    let mut setting = Setting::with(limits);
    setting.push_all(&[("a", "r1"), ("b", "r2")]);
    let (_, first) = setting.names();
    setting.push_all(&[("c", "r3"), ("d", "d4")]);
    assert!(setting.has_room(1_000, 1), "the next has come just now");
    setting.pass(STANDING);
    assert!(setting.has_room(1_000, 1));
    setting.pass(Duration::from_millis(1));
    assert!(!setting.has_room(1, 1), "three would wait");
    assert!(setting.queue.has_room(Lane::Heartbeats, 1_000, 1, setting.now), "the other lane moves");
    setting.end(first);
    let (names, second) = setting.names();
    assert_eq!(names, ["r3"]);
    assert!(setting.has_room(1, 1), "two would wait");
    assert!(setting.has_room(1_000, 1), "a large request has the chance of a small one");
    setting.push_all(&[("e", "d5")]);
    assert!(
        !setting.has_room(1, 1) && !setting.has_room(1_000, 1),
        "two wait, and the first of them has for long"
    );
    setting.end(second);
    let (_, third) = setting.names();
    assert!(setting.has_room(1_000, 1), "nobody waits");
    // Thousands for one id are no crowd at the door of the others.
    setting.push_all(&[("d", "r5"), ("d", "r6"), ("d", "r7")]);
    setting.pass(2 * STANDING);
    assert!(setting.has_room(1_000, 1));
    setting.end(third);
    setting.drain();
}

#[test]
fn a_batch_is_bounded() {
    let limits = Limits { write_batch: Size { callers: 3, bytes: 25 }, under_way: 1, ..Limits::default() };
    let mut setting = Setting::with(limits);
    setting.push_all(&[("a", "r1"), ("b", "r2"), ("c", "r3")]);
    assert_eq!(setting.drain(), [vec!["r1", "r2"], vec!["r3"]], "by bytes");
    let large = Thing { class: Class::Register, name: "large".to_owned(), callers: 1, bytes: 1_000 };
    setting.queue.push(id("l"), large, setting.now);
    setting.push_all(&[("a", "r1")]);
    assert_eq!(setting.drain(), [["large"], ["r1"]], "one item may be larger");
    setting.queue.limits.write_batch.bytes = 1_000;
    setting.push_all(&[("a", "r1"), ("b", "r2"), ("c", "r3"), ("d", "r4")]);
    assert_eq!(setting.drain(), [vec!["r1", "r2", "r3"], vec!["r4"]], "by items");
}

#[test]
fn what_has_waited_for_too_long_is_not_tried() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1"), ("a", "d2"), ("b", "r3"), ("c", "h4")]);
    setting.pass(PATIENCE / 2);
    setting.push_all(&[("a", "d5"), ("d", "r6")]);
    setting.pass(PATIENCE / 2);
    let (names, batch) = setting.names();
    assert_eq!(names, ["r6"], "what is first now is of another class than what was");
    setting.end(batch);
    assert_eq!(setting.drain(), [["d5"]]);
    let late = ["r1", "d2", "r3", "h4"].map(|name| (name.to_owned(), Dropped::Late));
    assert_eq!(setting.dropped(), late);
}

#[test]
fn what_waits_behind_a_call_that_hangs_is_swept_out() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1")]);
    let (_, hanging) = setting.names();
    setting.push_all(&[("a", "r2"), ("b", "r3"), ("b", "h4")]);
    setting.pass(PATIENCE);
    setting.push_all(&[("b", "d5")]);
    setting.queue.sweep(setting.now);
    let mut dropped = setting.dropped();
    dropped.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(dropped, ["h4", "r2", "r3"].map(|name| (name.to_owned(), Dropped::Late)));
    assert!(setting.start().is_none());
    setting.end(hanging);
    assert_eq!(setting.drain(), [["d5"]]);
}

#[test]
fn what_is_held_goes_aside_and_holds_up_nobody_but_its_own_id() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1"), ("b", "r2")]);
    let (_, batch) = setting.names();
    setting.push_all(&[("a", "r3"), ("c", "r4")]);
    setting.hold(batch);
    assert_eq!((setting.queue.waiting_aside(), setting.queue.waiting(Lane::Writes)), (2, 2));
    let (names, writes) = setting.names();
    assert_eq!((names.as_slice(), writes.slot), (["r4".to_owned()].as_slice(), WRITES));
    let (names, held) = setting.names();
    assert_eq!((names.join(" "), held.slot), ("r1 r2".to_owned(), HELD));
    setting.end(writes);
    assert!(setting.start().is_none(), "its id is under way");
    setting.end(held);
    assert_eq!(setting.drain(), [["r3"]]);
}

#[test]
fn nobody_waits_for_a_row_as_often_as_there_are_writes_for_it() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1")]);
    let (_, batch) = setting.names();
    setting.push_all(&[("a", "r2")]);
    setting.pass(Duration::from_secs(1));
    setting.hold(batch);
    let (_, held) = setting.names();
    setting.pass(Duration::from_secs(1));
    setting.push_all(&[("a", "r3")]);
    setting.queue.drop_line(&id("a"));
    setting.end(held);
    assert_eq!(setting.dropped(), ["r2", "r3"].map(|name| (name.to_owned(), Dropped::Held)));
    setting.push_all(&[("a", "r4")]);
    assert_eq!(setting.drain(), [["r4"]], "who comes after that has his own wait");
}

#[test]
fn the_side_way_is_bounded() {
    let mut setting =
        Setting::with(Limits { held: Size { callers: 1, bytes: 100 }, under_way: 1, ..Limits::default() });
    setting.push_all(&[("a", "r1"), ("b", "r2")]);
    let (_, batch) = setting.names();
    setting.push_all(&[("b", "r3")]);
    setting.hold(batch);
    assert_eq!(setting.dropped(), [("r2".to_owned(), Dropped::Held)]);
    let (names, writes) = setting.names();
    assert_eq!(names, ["r3"]);
    let (_, held) = setting.names();
    // While that is waited for, another one comes, and its turn doesn't.
    setting.hold(writes);
    setting.pass(PATIENCE_OF_THE_HELD);
    assert!(setting.start().is_none());
    setting.queue.sweep(setting.now);
    assert_eq!(setting.dropped(), [("r3".to_owned(), Dropped::Held)]);
    setting.end(held);
    setting.drain();
}

#[test]
fn a_batch_on_the_side_way_is_bounded() {
    let limits = Limits { write_batch: Size { callers: 3, bytes: 25 }, under_way: 1, ..Limits::default() };
    let mut setting = Setting::with(limits);
    setting.push_all(&[("a", "r1"), ("b", "r2")]);
    let (_, batch) = setting.names();
    setting.hold(batch);
    let large = Thing { class: Class::Register, name: "large".to_owned(), callers: 1, bytes: 1_000 };
    setting.queue.push(id("l"), large, setting.now);
    let (_, batch) = setting.names();
    setting.hold(batch);
    // One item may be larger.
    assert_eq!(setting.drain(), [vec!["r1", "r2"], vec!["large"]]);
}

#[test]
fn what_waited_while_the_database_was_away_is_dropped() {
    let mut setting = Setting::new();
    setting.push_all(&[("a", "r1")]);
    let (_, batch) = setting.names();
    let began = setting.now;
    setting.push_all(&[("a", "r2"), ("b", "d3"), ("b", "h4")]);
    setting.pass(Duration::from_secs(2));
    setting.push_all(&[("a", "r5")]);
    setting.queue.drop_older(Lane::Writes, began, Dropped::Away);
    let mut dropped = setting.dropped();
    dropped.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(dropped, ["d3", "r2"].map(|name| (name.to_owned(), Dropped::Away)));
    setting.end(batch);
    assert_eq!(setting.drain(), [["r5"], ["h4"]], "the other lane finds out for itself");
}
