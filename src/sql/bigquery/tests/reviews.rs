//! What hostile reviews found, each with the nearest statement that passes.

use super::{code, sent};
use crate::error::DenialCode;

/// To the service GLOBAL is an alias, and HASH before JOIN a hint: what is sent has one reading.
#[test]
fn no_word_between_a_table_and_a_join_has_a_second_meaning() {
    for text in [
        "SELECT global.* FROM `acme-prod.app.events_*` GLOBAL JOIN (SELECT 'tenant-a' AS tenant_id) AS `events_*` ON TRUE WHERE _TABLE_SUFFIX > '2026'",
        "WITH s AS (SELECT total FROM app.orders) SELECT 1 FROM s GLOBAL JOIN (SELECT 1 AS one) AS s ON TRUE WHERE 1 / (global.total - 5) > 0",
        "SELECT 1 FROM (app.orders AS s GLOBAL JOIN (SELECT 1 AS one) AS t ON TRUE)",
        "FROM app.orders AS s |> GLOBAL JOIN (SELECT 1 AS one) AS t ON TRUE",
    ] {
        let refused = [Some(DenialCode::LeakPossible), Some(DenialCode::CannotParse)];
        assert!(refused.contains(&code(text)), "{text}: {}", sent(text));
    }
    for (text, part) in [
        (
            "SELECT g.id FROM `acme-prod.app.events_*` AS g JOIN (SELECT 'tenant-a' AS tenant_id) AS s ON TRUE WHERE _TABLE_SUFFIX > '2026'",
            "AS g JOIN (SELECT 'tenant-a' AS tenant_id) AS s ON true WHERE `g`.`tenant_id` = 'tenant-a' AND",
        ),
        (
            "SELECT COUNT(*) FROM `acme-prod.app.events_*` WHERE _TABLE_SUFFIX > '2026'",
            "`events_*` AS hedgerow_source_1 WHERE `hedgerow_source_1`.`tenant_id` = 'tenant-a' AND",
        ),
        (
            "SELECT events.* FROM app.events HASH JOIN (SELECT STRUCT('tenant-a' AS tenant_id) AS `hash`) AS s ON TRUE WHERE _PARTITIONTIME IS NOT NULL",
            "`events` AS `HASH` JOIN",
        ),
        (
            "SELECT 1 FROM app.orders LOOKUP JOIN (SELECT 1 AS one) s ON TRUE WHERE 1 / (total - 5) > 0",
            "AS `LOOKUP` JOIN (SELECT 1 AS one) AS `s` ON",
        ),
    ] {
        assert!(sent(text).contains(part), "{text}\n{}", sent(text));
    }
}

/// A condition in a query of an expression is shielded by the guards of what it reads around.
#[test]
fn correlated_conditions_need_the_guards_around() {
    for (text, part) in [
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM app.currencies AS k WHERE k.code = c.name AND 1 / (c.credit - 5) > 0)",
            "k.code = c.name AND IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM app.orders AS o WHERE 1 / (c.credit - 5) > 0)",
            "IF(`o`.`tenant_id` = 'tenant-a' AND `c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)",
        ),
        (
            "SELECT (SELECT k.rate FROM app.currencies AS k WHERE 1 / (c.credit - 5) > 0) FROM app.customers AS c LEFT JOIN app.orders AS o ON TRUE",
            "IF(COALESCE(`c`.`tenant_id` = 'tenant-a', TRUE), 1 / (c.credit - 5) > 0, false)",
        ),
        // Without a table's name it could be a column around: it is made this level's.
        (
            "SELECT id FROM app.customers WHERE id IN (SELECT order_id FROM app.order_items AS i WHERE CAST(sku AS INT64) > DATE_DIFF(day, CURRENT_DATE(), DAY))",
            "CAST(`i`.sku AS INT64) > DATE_DIFF(`i`.day, CURRENT_DATE(), DAY)",
        ),
        (
            "DELETE app.customers AS c WHERE EXISTS(SELECT 1 FROM app.currencies AS k WHERE 1 / (c.credit - 5) > 0)",
            "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)",
        ),
        (
            "SELECT RANK() OVER w FROM app.customers AS c WINDOW w AS (ORDER BY (SELECT 1 FROM app.currencies AS k WHERE 1 / (c.credit - 5) > 0))",
            "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)",
        ),
        (
            "UPDATE app.customers AS c SET name = (SELECT k.code FROM app.currencies AS k WHERE 1 / (c.credit - 5) > 0) WHERE TRUE",
            "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)",
        ),
    ] {
        let sent = sent(text);
        let same = sent.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(same, "{text}\n{sent}\n{part}");
    }
    for (text, neighbour) in [
        // In ORDER BY, and in the windows that are named.
        (
            "SELECT c.id FROM app.customers AS c ORDER BY (SELECT 1 FROM app.currencies AS k WHERE 1 / (c.credit - 5) > 0)",
            "SELECT c.id FROM app.customers AS c ORDER BY (SELECT 1 FROM app.currencies AS k WHERE c.credit > 5)",
        ),
        (
            "SELECT id FROM app.customers WHERE EXISTS(SELECT 1 FROM app.currencies AS k JOIN app.orders AS o ON TRUE WHERE 1 / (credit - 5) > 0)",
            "SELECT id FROM app.customers WHERE EXISTS(SELECT 1 FROM app.currencies AS k JOIN app.orders AS o ON TRUE WHERE credit > 0)",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT 1 AS one) AS c2 JOIN app.orders AS o ON 1 / (credit - 5) > 0)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT 1 AS one) AS c2 JOIN app.orders AS o ON 1 / (o.total - 5) > 0)",
        ),
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
}

/// The second review's other findings, each with the nearest statement that passes.
#[test]
fn what_the_second_review_found_stays_found() {
    for (text, part) in [
        // ON sees the tables of its own parentheses alone.
        (
            "SELECT 1 FROM app.customers AS a JOIN ((SELECT STRUCT(total AS x, 'tenant-a' AS tenant_id) AS a FROM app.orders) AS b JOIN UNNEST([1]) AS z ON 1 / (a.x - 5) > 0) ON TRUE",
            "ON IF(`b`.`hedgerow_guard`, 1 / (a.x - 5) > 0, false)) ON true",
        ),
        (
            "SELECT 1 FROM app.customers AS a JOIN (app.orders AS b JOIN own_tenant_a.t AS z ON 1 / (total - 5) > 0) ON TRUE",
            "ON IF(`b`.`tenant_id` = 'tenant-a', 1 / (total - 5) > 0, false)) ON true",
        ),
        // A key that another tenant's row has as well opens nothing, and no key is NULL.
        (
            "SELECT 1 FROM app.order_items AS i LEFT JOIN own_tenant_a.t AS t ON TRUE WHERE 1 / (i.price - 5) > 0",
            "WHERE `orders`.`id` IS NOT NULL GROUP BY `orders`.`id` HAVING COUNTIF(`orders`.`tenant_id` = 'tenant-a') = COUNT(*)",
        ),
        (
            "SELECT credit FROM app.customers GROUP BY credit HAVING 1 / (SUM(DISTINCT credit) - 5) > 0",
            "HAVING IF(COALESCE(LOGICAL_AND(",
        ),
        (
            "SELECT credit FROM app.customers GROUP BY credit HAVING 1 / (ARRAY_AGG(credit)[OFFSET(0)] - 5) > 0",
            "HAVING IF(COALESCE(LOGICAL_AND(",
        ),
        (
            "SELECT credit FROM app.customers GROUP BY credit HAVING 1 / (SUM(credit) - 5) > 0",
            "HAVING 1 / (SUM(credit)",
        ),
        (
            "SELECT id FROM app.customers QUALIFY 1 / (LAG(credit, 0) OVER (ORDER BY id) - 5) > 0",
            "QUALIFY IF(`customers`.`tenant_id` = 'tenant-a', ",
        ),
        (
            "SELECT id FROM app.customers QUALIFY 1 / (SUM(credit) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND CURRENT ROW) - 5) > 0",
            "QUALIFY IF(`customers`.`tenant_id` = 'tenant-a', ",
        ),
        (
            "SELECT id FROM app.customers QUALIFY 1 / (LAG(credit) OVER (ORDER BY id) - 5) > 0",
            "QUALIFY 1 / (LAG(credit)",
        ),
        (
            "SELECT p FROM app.orders AS o LEFT JOIN UNNEST([1 / (o.total - 5)]) AS q WITH OFFSET AS p ON p = 1 WHERE p IS NULL",
            "ON IF(COALESCE(`o`.`tenant_id` = 'tenant-a', TRUE), p = 1, FALSE)",
        ),
        (
            "SELECT x FROM (SELECT 1 / (total - 5), id AS x FROM app.orders) AS d WHERE f0_ > 1",
            "WHERE IF(`d`.`hedgerow_guard`, f0_ > 1, FALSE)",
        ),
    ] {
        let sent = sent(text);
        let same = sent.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(same, "{text}\n{sent}\n{part}");
    }
    for (text, refused, neighbour) in [
        (
            "WITH RECURSIVE c AS (SELECT credit FROM app.customers UNION ALL SELECT credit FROM c WHERE FALSE) SELECT * FROM c WHERE 1 / (credit - 5) > 0",
            DenialCode::LeakPossible,
            "WITH RECURSIVE c AS (SELECT credit FROM app.customers UNION ALL SELECT credit FROM c WHERE FALSE) SELECT * FROM c WHERE credit > 0",
        ),
        (
            "SELECT ST_REGIONSTATS(ST_GEOGFROMTEXT('POINT(1 1)'), 'gs://bucket/secret.tif', 'B1').mean",
            DenialCode::Function,
            "SELECT ST_AREA(ST_GEOGFROMTEXT('POINT(1 1)'))",
        ),
        (
            "UPDATE app.people AS p SET name = TO_JSON_STRING(p) WHERE TRUE",
            DenialCode::ColumnDenied,
            "UPDATE app.people AS p SET name = TO_JSON_STRING(p.name) WHERE TRUE",
        ),
        (
            "UPDATE app.people SET name = FORMAT('%t', people) WHERE TRUE",
            DenialCode::ColumnDenied,
            "UPDATE app.people SET name = 'x' WHERE id = 1",
        ),
        (
            "DELETE FROM app.people AS p WHERE CONTAINS_SUBSTR(p, 'abc')",
            DenialCode::ColumnDenied,
            "DELETE FROM app.people AS p WHERE CONTAINS_SUBSTR(p.name, 'abc')",
        ),
        (
            "MERGE app.people AS p USING (SELECT 1 AS id) AS s ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = TO_JSON_STRING(p)",
            DenialCode::ColumnDenied,
            "MERGE app.people AS p USING (SELECT 1 AS id) AS s ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = TO_JSON_STRING(s)",
        ),
    ] {
        assert_eq!(code(text), Some(refused), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
}

/// The third review: what a query in an expression takes of the rows around by its FROM, or hides.
#[test]
fn what_from_carries_in_from_around_is_denied_or_shielded() {
    for (text, neighbour) in [
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT c.credit AS x FROM app.currencies) AS k WHERE 1 / (k.x - 5) > 0)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT rate AS x FROM app.currencies) AS k WHERE 1 / (k.x - 5) > 0)",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT 1 / (c.credit - 5) AS x FROM app.currencies) AS k WHERE k.x > 0)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT 1 / rate AS x FROM app.currencies) AS k WHERE k.x > 0)",
        ),
        (
            "SELECT (SELECT COUNT(*) FROM (SELECT c.*) AS k WHERE 1 / (credit - 5) > 0) FROM app.customers AS c",
            "SELECT (SELECT COUNT(*) FROM (SELECT c.*) AS k WHERE credit > 0) FROM app.customers AS c",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 / (c.credit - 5) FROM app.currencies EXCEPT DISTINCT SELECT 1)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT c.credit FROM app.currencies EXCEPT DISTINCT SELECT 1)",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT STRUCT('tenant-a' AS tenant_id, c.credit AS credit) AS c) AS k WHERE 1 / (c.credit - 5) > 0)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM (SELECT c.credit AS credit) AS k WHERE k.credit > 0)",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT STRUCT('tenant-a' AS tenant_id, c.credit AS credit) AS c FROM app.currencies AS k WHERE TRUE QUALIFY 1 / (c.credit - 5) > 0 AND ROW_NUMBER() OVER () = 1)",
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT STRUCT('tenant-a' AS tenant_id, c.credit AS credit) AS d FROM app.currencies AS k WHERE TRUE QUALIFY 1 / (c.credit - 5) > 0 AND ROW_NUMBER() OVER () = 1)",
        ),
        (
            "SELECT id FROM app.customers WHERE EXISTS(SELECT 1 FROM app.currencies AS k WHERE ARRAY_LENGTH(ARRAY_FILTER([1, 2], e -> 1 / e > 0)) > 0)",
            "SELECT id FROM app.customers WHERE ARRAY_LENGTH(ARRAY_FILTER([1, 2], e -> 1 / e > 0)) > 0",
        ),
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
    for (text, part) in [
        (
            "SELECT (SELECT COUNT(*) FROM own_tenant_a.t AS k WHERE FALSE HAVING 1 / (c.credit - 5) > 0) FROM app.customers AS c",
            "HAVING IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, FALSE)",
        ),
        // The name of the table below PIVOT is gone.
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM app.currencies AS c PIVOT(SUM(rate) FOR code IN ('EUR')) AS p WHERE 1 / (c.credit - 5) > 0)",
            "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, FALSE)",
        ),
        // An array of the rows around has no elements for anybody else.
        (
            "SELECT (SELECT COUNT(*) FROM UNNEST([c.credit]) AS x WHERE 1 / (x - 5) > 0) FROM app.customers AS c",
            "FROM UNNEST(IF(`c`.`tenant_id` = 'tenant-a', [c.credit], NULL)) AS x WHERE 1 / (x - 5) > 0",
        ),
        (
            "SELECT c.id FROM app.customers AS c WHERE EXISTS(SELECT 1 FROM c.tags AS t WHERE CAST(t AS INT64) > 0)",
            "UNNEST(IF(`c`.`tenant_id` = 'tenant-a', `c`.`tags`, NULL)) AS t",
        ),
        (
            "SELECT (SELECT COUNT(*) FROM app.currencies AS k WHERE NET.IP_TRUNC(b'1234', credit) IS NOT NULL) FROM app.customers AS c",
            "NET.IP_TRUNC(B'1234', `k`.credit)",
        ),
        (
            "SELECT (SELECT COUNT(*) FROM app.currencies AS k WHERE 1 / ((SELECT AS STRUCT c.*).credit - 5) > 0) FROM app.customers AS c",
            "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (",
        ),
        (
            "SELECT (SELECT COUNT(*) FROM app.currencies AS k WHERE 1 / (z.x - 5) > 0) FROM app.customers AS q, UNNEST([STRUCT(q.credit AS x)]) AS z",
            "WHERE IF(`q`.`tenant_id` = 'tenant-a', 1 / (z.x - 5) > 0, FALSE)",
        ),
        (
            "SELECT 1 FROM app.orders AS o LEFT JOIN UNNEST([1 / (o.total - 5)]) AS q WITH OFFSET LOOKUP JOIN app.currencies AS k ON TRUE WHERE id > 0",
            "WITH OFFSET `LOOKUP` JOIN",
        ),
        (
            "SELECT id FROM app.customers WHERE EXISTS(SELECT 1 FROM app.currencies AS k WHERE EXTRACT(DAY FROM k.day) / DATE_DIFF(k.day, k.day, WEEK(MONDAY)) > 0)",
            "WEEK(MONDAY)",
        ),
    ] {
        let sent = sent(text);
        let same = sent.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(same, "{text}\n{sent}\n{part}");
    }
}
