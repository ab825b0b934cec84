//! Roles that may create things in the schema, and would like the rights of the tables' owner.

use super::start;
use crate::harness::sql;

/// In older PostgreSQL everybody may create in `public`.
async fn let_create(owner: &mut sqlx::PgConnection, role: &str) {
    sql::run(owner, format!("GRANT CREATE, USAGE ON SCHEMA public TO {role}")).await;
    sql::run(owner, format!("GRANT SELECT, INSERT, UPDATE, DELETE ON node_registrations TO {role}")).await;
}

#[tokio::test]
async fn a_function_or_operator_of_a_neighbour_never_runs_with_the_owners_rights() {
    let (server, mut owner) = start().await;
    let database = server.database.as_ref().unwrap();
    let role = database.create_role("neighbour").await;
    let_create(&mut owner, &role).await;
    let mut neighbour = database.connect_as(&role).await;
    // Better matches for careless calls than ours are.
    sql::run(
        &mut neighbour,
        "CREATE TABLE caught (who TEXT);
         GRANT INSERT ON caught TO PUBLIC;
         CREATE FUNCTION public.onex_registry_record(a VARCHAR, b TEXT, c TEXT[]) RETURNS void LANGUAGE sql AS
             'INSERT INTO public.caught VALUES (current_user)';
         CREATE FUNCTION public.join_name(a TEXT, b NAME) RETURNS text LANGUAGE sql AS
             'INSERT INTO public.caught VALUES (current_user); SELECT $1 || $2::text';
         CREATE OPERATOR public.|| (LEFTARG = TEXT, RIGHTARG = NAME, FUNCTION = public.join_name);
         CREATE FUNCTION public.differ(a VARCHAR, b VARCHAR) RETURNS boolean LANGUAGE sql AS
             'INSERT INTO public.caught VALUES (current_user); SELECT true';
         CREATE OPERATOR public.<> (LEFTARG = VARCHAR, RIGHTARG = VARCHAR, FUNCTION = public.differ);
         CREATE FUNCTION public.array_remove(a TEXT[], b TEXT) RETURNS text[] LANGUAGE sql AS
             'INSERT INTO public.caught VALUES (current_user); SELECT $1'",
    )
    .await;
    sql::upsert(&mut neighbour, "n", "effect", "{}").await.unwrap();
    sql::upsert(&mut neighbour, "n", "compute", "{}").await.unwrap();
    sql::run(&mut neighbour, "UPDATE node_registrations SET node_id = 'm'; DELETE FROM node_registrations")
        .await;
    sql::upsert(&mut owner, "o", "effect", "{}").await.unwrap();
    sql::run(&mut owner, "TRUNCATE node_registrations").await;
    assert_eq!(sql::value::<i64>(&mut owner, "SELECT count(*) FROM caught").await, 0);
    let kinds: Vec<String> = sql::events(&mut owner, 0).await.into_iter().map(|event| event.kind).collect();
    let expected =
        ["registered", "updated", "deregistered", "registered", "deregistered", "registered", "deregistered"];
    assert_eq!(kinds, expected);
    server.stop().await;
}

#[tokio::test]
async fn nobody_forges_events_with_the_triggers_of_a_table_of_his_own() {
    let (server, mut owner) = start().await;
    let database = server.database.as_ref().unwrap();
    let role = database.create_role("forger").await;
    let_create(&mut owner, &role).await;
    let mut forger = database.connect_as(&role).await;
    sql::run(&mut forger, "CREATE TABLE mine (LIKE node_registrations)").await;
    for (event, function) in [
        ("AFTER INSERT ON mine FOR EACH ROW", "onex_registry_record_row"),
        ("BEFORE TRUNCATE ON mine FOR EACH STATEMENT", "onex_registry_record_truncate"),
    ] {
        let create = format!("CREATE TRIGGER forged {event} EXECUTE FUNCTION {function}()");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut forger).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{refused}");
    }
    let call = "SELECT onex_registry_record('n', 'registered', '{}')";
    let refused = sqlx::raw_sql(call).execute(&mut forger).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    server.stop().await;
}
