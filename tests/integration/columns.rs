//! Column and row rules: what is masked, what is denied, what a row must be to be written.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::token::Token;
use crate::support::wire::WireClient;
use crate::support::{TENANT_A, TENANT_B};

/// `users.email` and `users.credit` are masked but for administrators; the mask of `credit` fails for
/// rows of tenant B alone.
fn policy() -> String {
    POLICY.replace(
        "      password_hash: deny\n",
        "      password_hash: deny\n      email: {mask: \"left(email, 1) || '***'\", unless: {claim: role, in: [admin]}}\n  \
         public.documents: {tenant: tenant_id, columns: {title: {mask: \"upper(title)\"}, parent: {mask: \"10 / (100 - id + 1)\"}}}\n",
    )
    .replace("  public.documents: {tenant: tenant_id}\n", "")
}

fn world() -> World {
    World::with(&Options::new(&policy()))
}

fn admin(world: &World) -> WireClient {
    let token = Token::hs256(TENANT_A).claim("role", "admin".into()).sign();
    world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token)
}

#[test]
fn a_masked_column_shows_its_mask_wherever_it_is_read() {
    let world = world();
    let mut a = world.a();
    for (sql, expected) in [
        ("SELECT email FROM users ORDER BY id LIMIT 1", "a***"),
        ("SELECT u.email AS e FROM users u WHERE u.id = 1", "a***"),
        ("SELECT count(*) FROM users WHERE email = 'ann@a.example'", "0"),
        ("SELECT count(*) FROM users WHERE email = 'a***'", "3"),
        ("SELECT count(*) FROM users WHERE lower(email) LIKE 'ann%'", "0"),
        ("SELECT count(DISTINCT email) FROM users", "1"),
        ("SELECT email FROM users GROUP BY email", "a***"),
        ("SELECT max(email) FROM users", "a***"),
        ("SELECT string_agg(id::text, ',' ORDER BY email DESC, id) FROM users", "1,2,3"),
        ("SELECT count(*) FROM users a JOIN users b USING (email)", "9"),
        (
            "SELECT count(*) FROM users a JOIN (VALUES ('ann@a.example')) v(email) USING (email)",
            "0",
        ),
        (
            "SELECT count(*) FROM (VALUES ('a***')) v(email) NATURAL JOIN (SELECT email FROM users) u",
            "3",
        ),
        ("SELECT (SELECT email FROM users WHERE id = 2)", "a***"),
        ("WITH w AS (SELECT email FROM users WHERE id = 3) SELECT email FROM w", "a***"),
        ("SELECT email FROM users WHERE id = 1 FOR UPDATE", "a***"),
        ("SELECT email FROM users WHERE id = 1 UNION SELECT 'a***'", "a***"),
        ("SELECT left(email, 3) FROM users WHERE id = 1", "a**"),
        (
            "SELECT o.id::text || u.email FROM orders o LEFT JOIN users u ON u.id = o.user_id WHERE o.id = 1",
            "1a***",
        ),
        ("SELECT d.title FROM documents d WHERE d.id = 1", "ROOT"),
        ("SELECT to_jsonb(d)->>'title' FROM documents d WHERE d.id = 1", "ROOT"),
        ("SELECT (d).title FROM documents d WHERE d.id = 1", "ROOT"),
        ("SELECT count(*) FROM documents WHERE title = 'root'", "0"),
        ("SELECT count(*) FROM documents WHERE parent = 1", "0"),
        ("SELECT max(email) OVER () FROM users LIMIT 1", "a***"),
    ] {
        assert_eq!(a.query(sql).value(), expected, "{sql}");
        assert_eq!(a.extended(sql, &[]).value(), expected, "{sql}, extended");
    }
    let all = a.query("SELECT * FROM documents ORDER BY id").lines();
    assert_eq!(all.len(), 3);
    assert!(all[0].contains("ROOT") && all.iter().all(|line| !line.contains("root")), "{all:?}");
    let copied = format!("{:?}", a.query("COPY documents (id, title) TO STDOUT").messages);
    assert!(copied.contains("ROOT") && !copied.contains("root"), "{copied}");
    world.finish();
}

#[test]
fn a_mask_that_fails_for_another_tenants_row_is_never_evaluated_on_it() {
    // Document 101 is B's, and `10 / (100 - id + 1)` divides by zero there.
    let world = world();
    let mut a = world.a();
    for sql in [
        "SELECT parent FROM documents",
        "SELECT id FROM documents WHERE parent >= 0",
        "SELECT id FROM documents WHERE parent::text::int >= 0 ORDER BY parent",
        "SELECT d.id FROM documents d JOIN users u ON d.parent = u.id",
        "SELECT d.id FROM users u LEFT JOIN documents d ON d.parent = u.id",
        "SELECT d.id FROM users u FULL JOIN documents d ON d.parent = u.id",
        "SELECT parent, count(*) FROM documents GROUP BY parent HAVING parent > 0",
        "SELECT DISTINCT parent FROM documents",
        "UPDATE documents SET meta = NULL WHERE parent > 100",
        "UPDATE documents SET meta = to_jsonb(parent) RETURNING parent",
        "DELETE FROM documents WHERE parent > 100 RETURNING *",
    ] {
        let outcome = a.query(sql);
        assert!(outcome.errors().is_empty(), "{sql}: {:?}", outcome.errors());
    }
    let token = Token::hs256(TENANT_B).sign();
    let mut b = world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token);
    assert_eq!(b.query("SELECT parent FROM documents").sqlstate(), "22012", "the mask does fail");
    drop(b);
    world.hedgerow.assert_no_canary();
}

#[test]
fn a_masked_column_is_masked_when_rows_are_written_too() {
    let world = world();
    let mut a = world.a();
    assert_eq!(
        a.query("UPDATE users SET name = 'New' WHERE id = 1 RETURNING email").value(),
        "a***"
    );
    assert_eq!(
        a.query("UPDATE users SET name = 'x' WHERE email = 'ann@a.example'").tags(),
        ["UPDATE 0"]
    );
    assert_eq!(a.query("UPDATE users SET name = email WHERE email = 'a***'").tags(), ["UPDATE 3"]);
    assert_eq!(world.truth("SELECT name FROM users WHERE id = 1"), "a***");
    let made = a.query("INSERT INTO documents (id, title) VALUES (7, 'made') RETURNING *").lines();
    assert!(made[0].contains("MADE"), "{made:?}");
    assert_eq!(world.truth("SELECT title FROM documents WHERE id = 7"), "made");
    assert_eq!(a.query("DELETE FROM documents d WHERE id = 7 RETURNING d.title").value(), "MADE");
    for sql in [
        "UPDATE users SET email = 'x' WHERE id = 1",
        "INSERT INTO users (id, email, name) VALUES (9, 'bob@a.example', 'Bob')",
        "UPDATE users SET name = (SELECT email)",
        "DELETE FROM users RETURNING users",
        "SELECT password_hash FROM users",
        "COPY users TO STDOUT",
    ] {
        assert_eq!(a.query(sql).denial_code(), "HR1010", "{sql}");
    }
    world.finish();
}

#[test]
fn who_is_excepted_sees_the_column_in_the_same_moment() {
    let world = world();
    let (mut a, mut boss) = (world.a(), admin(&world));
    let sql = "SELECT email FROM users WHERE id = 1";
    for _ in 0..2 {
        assert_eq!(a.query(sql).value(), "a***");
        assert_eq!(boss.query(sql).value(), "ann@a.example");
    }
    assert_eq!(
        boss.query("UPDATE users SET email = 'new@a.example' WHERE id = 1").tags(),
        ["UPDATE 1"]
    );
    assert_eq!(boss.query("SELECT password_hash FROM users").denial_code(), "HR1010");
    world.finish();
}
