// pgjdbc through Hedgerow: metadata, prepared statements, portions, batches, generated keys.
// Exit 0 when all of it holds, as both tenants, in both query modes.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.UUID;

public class JdbcClient {
  record Tenant(String name, String id, List<Integer> users, int orders, int base) {}

  static final List<Tenant> TENANTS = List.of(
      new Tenant("A", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", List.of(1, 2, 3), 3, 10_000),
      new Tenant("B", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", List.of(101, 102, 103), 2, 20_000));

  public static void main(String[] arguments) throws Exception {
    for (Tenant tenant : TENANTS) {
      for (String mode : List.of("extended", "simple")) {
        try (Connection connection = connect(tenant, mode)) {
          metadata(connection.getMetaData());
          queries(connection, tenant);
          transactions(connection, tenant);
          writes(connection, tenant);
          copies(connection, tenant);
        }
      }
    }
  }

  static void copies(Connection connection, Tenant tenant) throws Exception {
    var copy = connection.unwrap(org.postgresql.PGConnection.class).getCopyAPI();
    String stranger = TENANTS.get(tenant.name().equals("A") ? 1 : 0).id();
    String sql = "COPY documents (id, tenant_id, title) FROM STDIN (FORMAT csv)";
    String row = tenant.base() + "," + tenant.id() + ",\"two\nlines\"\n";
    expect(copy.copyIn(sql, new java.io.StringReader(row)), 1L);
    try {
      copy.copyIn(sql, new java.io.StringReader((tenant.base() + 1) + "," + stranger + ",x\n"));
      throw new AssertionError("not denied");
    } catch (SQLException denial) {
      expect(denial.getSQLState(), "42501");
    }
    var out = new java.io.StringWriter();
    copy.copyOut("COPY (SELECT title FROM documents WHERE id >= 10000) TO STDOUT", out);
    expect(out.toString(), "two\\nlines\n");
    try (var statement = connection.createStatement()) {
      expect(statement.executeUpdate("DELETE FROM documents WHERE id >= 10000"), 1);
    }
  }

  static Connection connect(Tenant tenant, String mode) throws SQLException {
    var environment = System.getenv();
    var properties = new Properties();
    properties.put("user", "application");
    properties.put("password", environment.get("HEDGEROW_TOKEN_" + tenant.name()));
    properties.put("preferQueryMode", mode);
    properties.put("ApplicationName", "jdbc");
    return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:"
        + environment.get("HEDGEROW_PORT_" + tenant.name()) + "/" + environment.get("HEDGEROW_DATABASE"), properties);
  }

  static void metadata(DatabaseMetaData of) throws SQLException {
    expect(count(of.getTables(null, "public", "users", new String[] {"TABLE"})), 1);
    expect(count(of.getColumns(null, "public", "users", "%")), 8);
    expect(count(of.getPrimaryKeys(null, "public", "users")), 1);
    expect(count(of.getImportedKeys(null, "public", "orders")), 3);
    expect(count(of.getCrossReference(null, "public", "users", null, "public", "orders")), 2);
    expect(count(of.getBestRowIdentifier(null, "public", "users", DatabaseMetaData.bestRowSession, true)), 1);
    try {
      // It asks for reltuples and relpages: counts of every tenant's rows.
      of.getIndexInfo(null, "public", "users", false, true);
      throw new AssertionError("not denied");
    } catch (SQLException denial) {
      expect(denial.getSQLState(), "42501");
    }
    count(of.getExportedKeys(null, "public", "users"));
    count(of.getSchemas());
    count(of.getCatalogs());
    count(of.getTypeInfo());
    count(of.getFunctions(null, null, "%"));
    count(of.getFunctionColumns(null, null, "slug%", "%"));
    count(of.getTablePrivileges(null, null, "users"));
    count(of.getColumnPrivileges(null, "public", "users", "%"));
    of.getMaxColumnNameLength();
    of.getMaxColumnsInIndex();
    of.getSQLKeywords();
  }

  static void queries(Connection connection, Tenant tenant) throws SQLException {
    // Past prepareThreshold: a named statement from the fifth on.
    for (int round = 0; round < 8; round++) {
      try (var statement = connection.prepareStatement("SELECT id, tenant_id, total, placed FROM orders WHERE id > ?")) {
        statement.setInt(1, 0);
        var rows = statement.executeQuery();
        int found = 0;
        for (; rows.next(); found++) {
          expect(rows.getObject(2).toString(), tenant.id());
        }
        expect(found, tenant.orders());
      }
    }
    try (var statement = connection.prepareStatement("SELECT id FROM users WHERE id = ANY(?) ORDER BY id")) {
      statement.setArray(1, connection.createArrayOf("int4", new Integer[] {1, 2, 3, 101, 102, 103}));
      var rows = statement.executeQuery();
      rows.getMetaData().isAutoIncrement(1);
      expect(ids(rows), tenant.users());
    }
    expect(connection.isValid(5), true);
    expect(connection.getSchema(), "public");
  }

  static void transactions(Connection connection, Tenant tenant) throws SQLException {
    connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    connection.setReadOnly(true);
    connection.setAutoCommit(false);
    try (var statement = connection.createStatement()) {
      statement.setFetchSize(2);
      expect(ids(statement.executeQuery("SELECT id FROM users ORDER BY id")), tenant.users());
      var before = connection.setSavepoint();
      try {
        statement.executeQuery("SELECT * FROM vault");
        throw new AssertionError("not denied");
      } catch (SQLException denial) {
        expect(denial.getSQLState(), "42501");
      }
      connection.rollback(before);
      expect(ids(statement.executeQuery("SELECT id FROM users ORDER BY id")), tenant.users());
    }
    connection.commit();
    connection.setAutoCommit(true);
    connection.setReadOnly(false);
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
  }

  static void writes(Connection connection, Tenant tenant) throws SQLException {
    String sql = "INSERT INTO documents (id, tenant_id, title) VALUES (?, ?, ?)";
    try (var statement = connection.prepareStatement(sql, new String[] {"id"})) {
      for (int n = 0; n < 20; n++) {
        statement.setInt(1, tenant.base() + n);
        statement.setObject(2, UUID.fromString(tenant.id()));
        statement.setString(3, "batch");
        statement.addBatch();
      }
      statement.executeBatch();
      expect(count(statement.getGeneratedKeys()), 20);
    }
    try (var statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
      var rows = statement.executeQuery("SELECT id, title FROM documents WHERE id >= 10000 ORDER BY id");
      rows.next();
      rows.updateString(2, "updated");
      rows.updateRow();
      expect(statement.executeUpdate("DELETE FROM documents WHERE id >= 10000"), 20);
    }
  }

  static List<Integer> ids(ResultSet rows) throws SQLException {
    var ids = new ArrayList<Integer>();
    while (rows.next()) {
      ids.add(rows.getInt(1));
    }
    return ids;
  }

  static int count(ResultSet rows) throws SQLException {
    int count = 0;
    while (rows.next()) {
      count++;
    }
    return count;
  }

  static void expect(Object found, Object wanted) {
    if (!wanted.equals(found)) {
      throw new AssertionError(wanted + " expected, came " + found);
    }
  }
}
