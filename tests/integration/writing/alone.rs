//! A registration that comes alone is done by statements of its own, which must do what those for many do.

use std::fmt::Write as _;

use onex_registry::node::{NodeType, NodeVersion, Precondition, Reason, Revision};
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{
    IfHeld, MaintenanceWrite, RegisterWrite, Registered, Store as _, StoreError, Written,
};
use serde_json::json;
use sqlx::{PgConnection, Row as _};

use super::{deregister, key, object, open, origin, register};
use crate::harness::{TestDatabase, sql};

/// What must hold, as a test says it: the revisions are those of the node.
#[derive(Debug, Clone, Copy)]
enum If {
    Any,
    Absent,
    Present,
    Own,
    OwnOrAnother,
    Another,
}

/// A node that is always registered alone, and one that never is.
struct Pair {
    store: PostgresStore,
    owner: PgConnection,
    names: [String; 2],
    revisions: [Option<Revision>; 2],
    bystanders: u32,
    if_held: IfHeld,
}

impl Pair {
    /// The same write to both, by their own ways, comes to the same.
    async fn write(&mut self, what: &str, condition: If, change: impl Fn(&mut RegisterWrite)) {
        let mut told = Vec::new();
        for (which, name) in self.names.clone().iter().enumerate() {
            let mut write = register(name, &json!({"a": 1}));
            change(&mut write);
            let own = self.revisions[which].unwrap_or(Revision::ZERO);
            let another = Revision::new(1_000_000).unwrap();
            write.precondition = match condition {
                If::Any => Precondition::None,
                If::Absent => Precondition::Absent,
                If::Present => Precondition::Present,
                If::Own => Precondition::Revision(vec![own]),
                If::OwnOrAnother => Precondition::Revision(vec![another, own]),
                If::Another => Precondition::Revision(vec![another]),
            };
            let mut batch = vec![write];
            if which == 1 {
                // Before and behind it in the order of locks, new or not.
                self.bystanders += 1;
                batch.insert(0, register("0", &json!({"bystander": self.bystanders})));
                batch.push(register(&format!("z{}", self.bystanders / 2), &json!({})));
            }
            sql::run(&mut self.owner, "DELETE FROM onex_registry_signs").await;
            let written = self.store.register(&batch, self.if_held).await;
            told.push(self.told(which, written).await);
        }
        assert_eq!(told[0], told[1], "{what} {condition:?}");
    }

    /// What became of it, in words that don't depend on its name, its numbers or the time.
    async fn told(&mut self, which: usize, mut written: Written<Registered>) -> String {
        let name = &self.names[which];
        let before = self.revisions[which];
        let mut told = String::new();
        let events = written.recorded.iter().flat_map(|recorded| &recorded.events);
        for event in events.filter(|event| event.node_id.as_str() == name) {
            let (actor, correlation_id) = (&event.actor, &event.correlation_id);
            writeln!(told, "{} {:?} {actor} {correlation_id:?}", event.kind, event.changed).unwrap();
        }
        match written.results.swap_remove(which) {
            Ok(Registered { created, record, horizon }) => {
                let stored = self.store.get(&key(name)).await.unwrap().value.unwrap();
                assert_eq!(stored, record);
                self.revisions[which] = Some(record.revision);
                let beaten = record.last_heartbeat.map(|at| at == record.updated_at);
                let (new, kept) =
                    (record.registered_at == record.updated_at, before == Some(record.revision));
                let now = record.updated_at == horizon.at;
                let shown = json!([
                    record.node_type,
                    record.node_version,
                    record.capabilities.as_str(),
                    record.endpoints.as_str(),
                    record.metadata.as_str(),
                    record.health_endpoint,
                    record.ttl_seconds,
                    record.maintenance,
                ]);
                write!(told, "created {created} new {new} kept {kept} beaten {beaten:?} now {now} {shown}")
                    .unwrap();
            }
            Err(StoreError::PreconditionFailed { present }) => {
                assert!(present.is_none() || present == before, "{present:?}");
                write!(told, "refused; present {}", present.is_some()).unwrap();
            }
            Err(error) => write!(told, "{error}").unwrap(),
        }
        let signs = "SELECT COALESCE(bool_or($1 = ANY (alive)), false) AS alive,
                            COALESCE(bool_or($1 = ANY (renewed)), false) AS renewed FROM onex_registry_signs";
        let signs = sqlx::query(signs).bind(name).fetch_one(&mut self.owner).await.unwrap();
        let (alive, renewed): (bool, bool) = (signs.get("alive"), signs.get("renewed"));
        write!(told, " alive {alive} renewed {renewed}").unwrap();
        told
    }

    async fn remove(&mut self) {
        for name in &self.names {
            self.store.deregister(&[deregister(name)], IfHeld::Wait).await.results.remove(0).unwrap();
        }
    }

    async fn maintain(&mut self, reason: Option<&str>) {
        for (which, name) in self.names.iter().enumerate() {
            let reason = reason.map(|reason| Reason::parse(reason).unwrap());
            let write = MaintenanceWrite {
                node_id: key(name),
                reason,
                precondition: Precondition::None,
                origin: origin("maintenance"),
            };
            let maintained =
                self.store.set_maintenance(&[write], IfHeld::Wait).await.results.remove(0).unwrap();
            self.revisions[which] = Some(maintained.record.revision);
        }
    }

    /// From the first registration to a second life.
    async fn live(&mut self, what: &str) {
        for condition in [If::Present, If::Own, If::Another] {
            self.write(what, condition, |_| {}).await;
        }
        self.write(what, If::Absent, |_| {}).await;
        for condition in [If::Any, If::Absent, If::Present, If::Own, If::OwnOrAnother, If::Another] {
            self.write(what, condition, |_| {}).await;
            self.write(what, condition, |write| write.alive = true).await;
        }
        self.change_all(what).await;
        self.maintain(Some("disk")).await;
        self.write(what, If::Any, |_| {}).await;
        self.write(what, If::Any, |write| write.registration.metadata = object(&json!({"b": 1}))).await;
        self.maintain(None).await;
        self.write(what, If::Own, |_| {}).await;
    }

    async fn change_all(&mut self, what: &str) {
        let changes: [fn(&mut RegisterWrite); 9] = [
            |write| write.registration.node_type = NodeType::Compute,
            |write| write.registration.node_version = NodeVersion::parse("2.0.0").unwrap(),
            |write| write.registration.capabilities = object(&json!({"c": [1, 2]})),
            |write| write.registration.endpoints = object(&json!({"grpc": "localhost:1"})),
            |write| write.registration.metadata = object(&json!({"a": "1"})),
            |write| write.registration.health_endpoint = Some("http://localhost/health".to_owned()),
            |write| write.registration.ttl_seconds = Some(7),
            |write| {
                write.registration.node_type = NodeType::Reducer;
                write.registration.metadata = object(&json!({}));
                write.alive = true;
            },
            |write| write.origin = origin("another request"),
        ];
        for change in changes {
            // From what it was before, to this, and back.
            self.write(what, If::Any, change).await;
            self.write(what, If::Own, change).await;
            self.write(what, If::Any, |_| {}).await;
        }
    }
}

async fn pair(database: &TestDatabase, ours: bool) -> Pair {
    let store = open(database).await;
    if ours {
        store.sessions_are_ours();
    }
    let names = ["alone", "together"].map(str::to_owned);
    Pair {
        store,
        owner: database.connect().await,
        names,
        revisions: [None; 2],
        bystanders: 0,
        if_held: IfHeld::Wait,
    }
}

#[tokio::test]
async fn a_registration_alone_is_what_it_is_among_others() {
    for ours in [false, true] {
        let database = TestDatabase::create().await;
        let mut pair = pair(&database, ours).await;
        pair.live("first life").await;
        pair.remove().await;
        pair.live("second life").await;
    }
}

#[tokio::test]
async fn triggers_of_the_owner_make_no_difference() {
    let database = TestDatabase::create().await;
    let mut pair = pair(&database, true).await;
    sql::run(
        &mut pair.owner,
        "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER own_rule BEFORE INSERT OR UPDATE ON node_registrations
            FOR EACH ROW WHEN (NEW.node_id IN ('alone', 'together')) EXECUTE FUNCTION own_rule()",
    )
    .await;
    pair.live("a trigger that does nothing").await;
    for (what, body) in [
        (
            "it changes",
            "NEW.metadata := NEW.metadata || '{\"own\": 1}'; NEW.node_version := '3.0.0'; RETURN NEW;",
        ),
        ("it undoes", "IF TG_OP = 'UPDATE' THEN NEW.metadata := OLD.metadata; END IF; RETURN NEW;"),
        ("it sets times", "NEW.updated_at := 'infinity'; NEW.last_heartbeat := '2020-01-01'; RETURN NEW;"),
        ("it swallows", "RETURN NULL;"),
        ("it swallows updates", "IF TG_OP = 'UPDATE' THEN RETURN NULL; END IF; RETURN NEW;"),
        ("it refuses", "RAISE EXCEPTION 'own rule';"),
        ("it fails", "PERFORM * FROM there_is_no_such_table; RETURN NEW;"),
        ("it renames", "NEW.node_id := NEW.node_id || ' of the owner'; RETURN NEW;"),
    ] {
        for again in [false, true] {
            if again {
                pair.remove().await;
            }
            let rule = format!(
                "CREATE OR REPLACE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
            );
            sql::run(&mut pair.owner, rule).await;
            for condition in [If::Any, If::Own, If::Present, If::Absent] {
                pair.write(what, condition, |_| {}).await;
                pair.write(what, condition, |write| write.registration.ttl_seconds = Some(7)).await;
            }
            sql::run(&mut pair.owner, rule_of_nothing()).await;
            pair.write(what, If::Any, |write| write.alive = true).await;
        }
    }
}

fn rule_of_nothing() -> &'static str {
    "CREATE OR REPLACE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
}

#[tokio::test]
async fn rows_that_others_hold_make_no_difference() {
    let database = TestDatabase::create().await;
    let mut pair = pair(&database, true).await;
    pair.if_held = IfHeld::ComeBack;
    let mut holder = database.connect().await;
    let insert = "INSERT INTO node_registrations (node_id, node_type) VALUES ('alone', 'effect'), ('together', 'effect')";
    sql::run(&mut holder, format!("BEGIN; {insert}")).await;
    pair.write("inserted and not committed", If::Any, |_| {}).await;
    sql::run(&mut holder, "ROLLBACK").await;
    pair.write("rolled back", If::Absent, |_| {}).await;
    let theirs = "WHERE node_id IN ('alone', 'together')";
    for held in [
        format!("UPDATE node_registrations SET metadata = '{{\"held\": 1}}' {theirs}"),
        format!("DELETE FROM node_registrations {theirs}"),
        format!("SELECT FROM node_registrations {theirs} FOR KEY SHARE"),
        format!("SELECT FROM node_registrations {theirs} FOR SHARE"),
    ] {
        sql::run(&mut holder, format!("BEGIN; {held}")).await;
        for condition in [If::Any, If::Own, If::Absent] {
            pair.write(&held, condition, |write| write.alive = true).await;
        }
        sql::run(&mut holder, "ROLLBACK").await;
    }
}
