// What the service's own analyzer says of texts that Hedgerow would send. One JSON object a line on standard
// input; the first is `{"tenant": "…", "tables": {"project.dataset.table": {"columns": {name: type},
// "tenant": column or null, "through": column or null}}}`, the others `{"original": "…", "sent": "…"}`. On
// standard output a line for each text of which one of these does not hold, then the counts; exit 1 if there
// was one.
//
// - unguarded: each scan of a tenant's table stands below a filter that compares its own tenant column with the
//   tenant (or asks for its parent), with nothing between that makes rows of nulls.
// - misled: whatever is compared with the tenant is the tenant column of a table: no client's column of its name.
// - unshielded: no condition (WHERE, ON, HAVING, QUALIFY, what IN and set operations compare) computes of a
//   tenant's columns what may raise an error, unless that stands in IF behind the guard of its table, or needs
//   the outcome of an aggregate or a window. Columns are followed through sub-queries, CTEs and unions by the
//   numbers that the analyzer gave them, not by their names.
// - broken: the original can be read and what is sent cannot.
//
// The client's own text never holds the tenant's name.
import { createInterface } from 'node:readline';
import { runServer, terminateServer, ZetaSQLClient } from '@fivetrandevelopers/zetasql';

const port = Number(process.env.PORT ?? 50006);
runServer(port).catch((error) => {
  console.error(error);
  process.exit(2);
});
ZetaSQLClient.init(port);
const client = ZetaSQLClient.getInstance();
for (let tries = 0; ; tries += 1) {
  try {
    await client.extractTableNamesFromStatement({ sqlStatement: 'SELECT 1' });
    break;
  } catch (error) {
    if (tries > 900) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
const features = await client.getLanguageOptions({ maximumFeatures: true });
const options = { languageOptions: { ...features, supportedStatementKinds: [] } };

/** Functions that raise no error whatever their arguments hold. */
const TOTAL = new Set(
  `$equal $not_equal $less $less_or_equal $greater $greater_or_equal $and $or $not $is_null $is_true $is_false
   $is_not_true $is_not_false $in $between $is_distinct_from $is_not_distinct_from $case_no_value
   $case_with_value $make_array if ifnull coalesce nullif lower upper length starts_with ends_with ltrim rtrim
   trim safe_divide row_number rank dense_rank count $count_star countif logical_and logical_or bit_and
   bit_or max min any_value max_by min_by first_value last_value`.split(/\s+/),
);
/** Aggregates and windows that give a group of one value that value: they may be computed before it is one. */
const OF_ONE_VALUE = new Set(
  `any_value avg bit_and bit_or first_value grouping last_value logical_and logical_or max max_by min min_by
   nth_value percentile_cont percentile_disc`.split(/\s+/),
);
/** Those that may leave an operand out. */
const CHOICES = new Set(`$and $or if ifnull coalesce nullif $case_no_value $case_with_value $in $between`.split(' '));

const number = (id) => (typeof id === 'object' ? id.low : Number(id));
const idOf = (column) => number(column.columnId ?? -1);
const nameOf = (call) => (call.function?.name ?? '').replace(/^ZetaSQL:/, '').toLowerCase();

/** A node as `{kind, …its fields and those of what it extends}`. */
function node(value) {
  let kind;
  let fields = {};
  for (let at = value; at && typeof at === 'object'; ) {
    if (at.node && at[at.node]) {
      kind = at.node;
      at = at[at.node];
      continue;
    }
    fields = { ...at, ...fields };
    at = at.parent;
  }
  return { kind, ...fields };
}

/** One statement, read. */
class Reading {
  constructor(statement, schema) {
    this.schema = schema;
    /** Column number: what it is made of. */
    this.columns = new Map();
    /** The same of columns that are known once all is read. */
    this.later = [];
    this.scans = [];
    this.taken = new Set();
    this.conditions = [];
    this.entries = new Map();
    this.memo = new Map();
    this.statement = statement;
    this.walk(statement, [], []);
    for (const [column, from] of this.later) this.columns.set(column, from());
  }

  /** Every node below, each with the scans that it stands under, and the conditions of IF that it stands behind. */
  walk(value, above, behind) {
    if (Array.isArray(value)) {
      value.forEach((one) => this.walk(one, above, behind));
      return;
    }
    if (value === null || typeof value !== 'object') return;
    let path = above;
    if (value.node && value[value.node]) {
      const read = node(value);
      if (read.kind === 'resolvedTableScanNode') this.taken.add(read.table);
      if (/(Scan|Stmt)Node$/.test(read.kind)) path = [...above, read];
      this.take(read, path, behind);
      if (nameOf(read) === 'if') {
        const [condition, chosen, other] = read.argumentList;
        this.walk([condition, other], path, behind);
        this.walk(chosen, path, [...behind, condition]);
        return;
      }
      if (read.kind === 'resolvedSubqueryExprNode') {
        // The service computes it by a join: what it stands behind does not hold in it.
        this.walk(read.inExpr, path, behind);
        this.walk(read.subquery, path, []);
        return;
      }
    } else if (value.table?.name && value.parent?.columnList && !this.taken.has(value.table)) {
      // The target of a write has no kind of its own.
      this.take({ ...node(value), kind: 'resolvedTableScanNode' }, [...above, { kind: 'target' }], behind);
    }
    if (value.column && value.expr) this.columns.set(idOf(value.column), { expr: value.expr });
    let concrete = value;
    while (concrete.node && concrete[concrete.node]) concrete = concrete[concrete.node];
    Object.values(concrete).forEach((below) => this.walk(below, path, behind));
  }

  take(read, path, behind) {
    const condition = (expr) => expr && this.conditions.push({ expr, behind });
    const list = read.columnList ?? [];
    const after = (column, from) => this.later.push([idOf(column), from]);
    switch (read.kind) {
      case 'resolvedTableScanNode': {
        const scan = { table: read.table.fullName || read.table.name, columns: new Set(list.map(idOf)), path };
        this.scans.push(scan);
        list.forEach((column) => this.columns.set(idOf(column), { scan, name: column.name.toLowerCase() }));
        break;
      }
      case 'resolvedFilterScanNode':
        condition(read.filterExpr);
        break;
      case 'resolvedJoinScanNode':
        condition(read.joinExpr);
        break;
      case 'resolvedArrayScanNode':
        condition(read.joinExpr);
        if (read.elementColumn) after(read.elementColumn, () => ({ any: [read.arrayExpr] }));
        (read.elementColumnList ?? []).forEach((column, at) =>
          after(column, () => ({ any: [read.arrayExprList[at]] })),
        );
        break;
      case 'resolvedAggregateScanNode': {
        const keyless = (read.groupByList ?? []).length === 0;
        for (const { column } of read.aggregateList ?? []) {
          after(column, () => ({ ...this.columns.get(idOf(column)), keyless }));
        }
        break;
      }
      case 'resolvedSetOperationScanNode':
      case 'resolvedRecursiveScanNode': {
        const items = read.inputItemList ?? [read.nonRecursiveTerm, read.recursiveTerm];
        list.forEach((column, at) =>
          after(column, () => ({ any: items.map((item) => ({ of: idOf(item.outputColumnList[at]) })) })),
        );
        // 0, 1: UNION; the others compare.
        const compares = read.kind === 'resolvedSetOperationScanNode' && ![0, 1].includes(read.opType);
        if (compares) {
          for (const item of items) {
            item.outputColumnList.forEach((column) => condition({ of: idOf(column) }));
          }
        }
        break;
      }
      case 'resolvedWithScanNode':
        for (const entry of read.withEntryList) this.entries.set(entry.withQueryName, node(entry.withSubquery));
        break;
      case 'resolvedWithRefScanNode':
        list.forEach((column, at) =>
          after(column, () => {
            const from = this.entries.get(read.withQueryName)?.columnList?.[at];
            return { any: from ? [{ of: idOf(from) }] : [] };
          }),
        );
        break;
      case 'resolvedPivotScanNode':
        (read.pivotColumnList ?? []).forEach(({ column }) =>
          after(column, () => ({ any: [...read.pivotExprList, read.forExpr] })),
        );
        break;
      case 'resolvedUnpivotScanNode':
        (read.valueColumnList ?? []).forEach((column) =>
          after(column, () => ({
            any: read.unpivotArgList.flatMap((one) => one.columnList.map((of) => ({ of: idOf(of.column ?? of) }))),
          })),
        );
        break;
      case 'resolvedSubqueryExprNode':
        // 3: IN
        if (read.subqueryType === 3 || read.subqueryType === 'IN') {
          condition(read.inExpr);
          node(read.subquery).columnList.forEach((column) => condition({ of: idOf(column) }));
        }
        break;
      case 'resolvedUpdateStmtNode':
      case 'resolvedDeleteStmtNode':
        condition(read.whereExpr);
        break;
      case 'resolvedMergeStmtNode':
        condition(read.mergeExpr);
        read.whenClauseList.forEach((when) => condition(when.matchExpr));
        break;
      default:
    }
  }

  rule(scan) {
    return this.schema.tables[scan.table];
  }

  isProtected(scan) {
    const rule = this.rule(scan);
    return Boolean(rule?.tenant || rule?.through);
  }

  isTenant(expr) {
    if (!expr) return false;
    const read = node(expr);
    return read.kind === 'resolvedLiteralNode' && read.value?.value?.stringValue === this.schema.tenant;
  }

  /** The column of a table that an expression hands on unchanged. */
  origin(expr) {
    const of = expr.of ?? (node(expr).kind === 'resolvedColumnRefNode' ? idOf(node(expr).column) : undefined);
    if (of === undefined) return undefined;
    const from = this.columns.get(of);
    if (from?.scan) return from;
    const below = from?.expr ? [from.expr] : from?.any;
    if (below?.length !== 1) return undefined;
    return this.origin(below[0]);
  }

  /** The scans of whose rows an expression says that they are the tenant's. */
  guarded(expr) {
    if (expr.of !== undefined) return this.guardedBy(expr.of);
    const read = node(expr);
    if (read.kind === 'resolvedColumnRefNode') return this.guardedBy(idOf(read.column));
    const all = (list) => list.flatMap((one) => this.guarded(one));
    const name = nameOf(read);
    if (name === '$equal' && read.argumentList?.some((one) => this.isTenant(one))) {
      const other = read.argumentList.find((one) => !this.isTenant(one));
      const column = other && this.origin(other);
      return column && this.rule(column.scan)?.tenant === column.name ? [column.scan] : [];
    }
    if (read.kind === 'resolvedSubqueryExprNode' && read.inExpr) {
      const column = this.origin(read.inExpr);
      return column && this.rule(column.scan)?.through === column.name ? [column.scan] : [];
    }
    if (name === '$and' || name === 'logical_and') return all(read.argumentList);
    if (name === 'coalesce' || name === 'ifnull') return all(read.argumentList.slice(0, 1));
    return [];
  }

  guardedBy(of) {
    const from = this.columns.get(of);
    if (from?.expr) return this.guarded(from.expr);
    return (from?.any ?? []).flatMap((one) => this.guarded(one));
  }

  /**
   * What evaluating an expression before any guard could tell: `fails`, the scans whose rows can make it fail;
   * `reads`, those that it reads; `pinned`, whether it needs an outcome of an aggregate or a window; `bare`,
   * whether it reads a column beside one.
   */
  study(expr) {
    if (expr === null || expr === undefined) return empty();
    if (expr.of !== undefined) return this.column(expr.of);
    const read = node(expr);
    switch (read.kind) {
      case undefined:
      case 'resolvedLiteralNode':
      case 'resolvedParameterNode':
        return empty();
      case 'resolvedColumnRefNode':
        return this.column(idOf(read.column));
      case 'resolvedCastNode': {
        const inner = this.study(read.expr);
        return read.returnNullOnError || isWider(node(read.expr), read) ? inner : failing([inner]);
      }
      case 'resolvedGetStructFieldNode':
        return this.study(read.expr);
      case 'resolvedMakeStructNode':
        return joined((read.fieldList ?? []).map((one) => this.study(one)), true);
      case 'resolvedSubqueryExprNode': {
        const outputs = node(read.subquery).columnList.map(({ columnId }) => this.column(number(columnId)));
        // EXISTS (2) looks at no value.
        const values = [2, 'EXISTS'].includes(read.subqueryType) ? [] : outputs;
        const found = joined([this.study(read.inExpr), ...values], true);
        // Its own conditions are judged where they stand.
        // The outcome of aggregates of all its rows is told by nothing below.
        const outcome = outputs.length > 0 && outputs.every((one) => one.pinned && !one.bare);
        return { ...found, reads: outcome ? new Set() : found.reads, pinned: false };
      }
      case 'resolvedAggregateFunctionCallNode':
      case 'resolvedAnalyticFunctionCallNode':
        return this.computed(read, false);
      case 'resolvedFunctionCallNode': {
        const name = nameOf(read);
        const list = read.argumentList ?? [];
        if (name === 'if') {
          const behind = new Set(this.guarded(list[0]));
          const [asked, chosen, other] = list.map((one) => this.study(one));
          // The guard itself is no client's.
          const condition = behind.size > 0 ? empty() : asked;
          const left = new Set([...chosen.fails].filter((scan) => !behind.has(scan)));
          return joined([condition, { ...chosen, fails: left }, other], true);
        }
        const parts = list.map((one) => this.study(one));
        // A pattern may end in a backslash; a plain one does not.
        const pattern = name === '$like' ? node(list[1]).value?.value?.stringValue : undefined;
        if (pattern !== undefined && !pattern.includes('\\')) return joined(parts, false);
        const safe = [1, 'SAFE_ERROR_MODE'].includes(read.errorMode);
        return TOTAL.has(name) || safe ? joined(parts, CHOICES.has(name)) : failing(parts);
      }
      default: {
        // Whatever else: of all that stands in it.
        const parts = [];
        const search = (value) => {
          if (value === null || typeof value !== 'object') return;
          if (Array.isArray(value)) return value.forEach(search);
          if (value.node && /^resolved(ColumnRef|FunctionCall|Cast|SubqueryExpr)/.test(value.node)) {
            parts.push(this.study(value));
            return;
          }
          Object.values(value).forEach(search);
        };
        search({ ...read, kind: undefined });
        return failing(parts);
      }
    }
  }

  /** An aggregate or a window. */
  computed(read, keyless) {
    const found = joined((read.argumentList ?? []).map((one) => this.study(one)), true);
    const window = read.kind === 'resolvedAnalyticFunctionCallNode';
    if (!OF_ONE_VALUE.has(nameOf(read)) || (keyless && !window)) {
      return { ...empty(), reads: found.reads, pinned: true };
    }
    return TOTAL.has(nameOf(read)) ? { ...found, pinned: false } : failing([{ ...found, pinned: false }]);
  }

  column(of) {
    if (this.memo.has(of)) return this.memo.get(of);
    this.memo.set(of, empty());
    const from = this.columns.get(of);
    let found = empty();
    if (from?.scan) {
      found = { ...empty(), bare: true, reads: new Set(this.isProtected(from.scan) ? [from.scan] : []) };
    } else if (from?.expr) {
      const read = node(from.expr);
      const computes = /Aggregate|Analytic/.test(read.kind);
      found = computes ? this.computed(read, from.keyless) : this.study(from.expr);
    } else {
      found = joined((from?.any ?? []).map((one) => this.study(one)), true);
    }
    this.memo.set(of, found);
    return found;
  }

  /** What does not hold. */
  faults() {
    const faults = [];
    for (const scan of this.scans.filter((one) => this.isProtected(one))) {
      if (!this.stands(scan)) faults.push(`unguarded: ${scan.table}`);
    }
    const search = (value) => {
      if (value === null || typeof value !== 'object') return;
      if (Array.isArray(value)) return value.forEach(search);
      if (value.node === 'resolvedFunctionCallNode' || value.node === 'resolvedFunctionCallBaseNode') {
        const read = node(value);
        if (read.argumentList?.some((one) => this.isTenant(one))) {
          const other = read.argumentList.find((one) => !this.isTenant(one));
          const column = other && this.origin(other);
          const own = column && this.rule(column.scan)?.tenant === column.name;
          if (!own) faults.push(`misled: ${nameOf(read)}`);
        }
      }
      Object.values(value).forEach(search);
    };
    search(this.statement);
    for (const { expr, behind } of this.conditions) {
      const shielded = new Set(behind.flatMap((one) => this.guarded(one)));
      const fails = [...this.study(expr).fails].filter((scan) => !shielded.has(scan));
      for (const scan of fails) faults.push(`unshielded: ${scan.table}`);
    }
    return [...new Set(faults)];
  }

  /** `GROUP BY key HAVING COUNTIF(guard) = COUNT(*)`: keys of which every row is the tenant's. */
  isOfKeys(scan, aggregate, having) {
    const read = having?.filterExpr ? node(having.filterExpr) : {};
    const sides = nameOf(read) === '$equal' ? read.argumentList.map((one) => idOf(node(one).column ?? {})) : [];
    const calls = sides.map((side) => aggregate.aggregateList.find((one) => idOf(one.column) === side));
    const [some, all] = calls.map((one) => (one ? node(one.expr) : {}));
    const own = nameOf(some ?? {}) === 'countif' && this.guarded(some.argumentList[0]).includes(scan);
    return own && nameOf(all ?? {}) === '$count_star' && aggregate.groupByList.length === 1;
  }

  /** Whether a guard stands over a scan. */
  stands(scan) {
    for (let at = scan.path.length - 2; at >= 0; at -= 1) {
      const over = scan.path[at];
      const condition = over.filterExpr ?? over.whereExpr ?? over.mergeExpr;
      if (condition && conjuncts(condition).some((one) => this.guarded(one).includes(scan))) return true;
      if (over.kind === 'resolvedAggregateScanNode') return this.isOfKeys(scan, over, scan.path[at - 1]);
      const inner = over.kind === 'resolvedJoinScanNode' && [0, 'INNER'].includes(over.joinType);
      const passes = /^(target|resolved(Filter|Project|Array|Sample|Merge|Update|Delete)(Scan|Stmt)Node)$/;
      if (!inner && !passes.test(over.kind)) return false;
    }
    return false;
  }
}

function conjuncts(expr) {
  const read = node(expr);
  return nameOf(read) === '$and' ? read.argumentList.flatMap(conjuncts) : [expr];
}

const empty = () => ({ fails: new Set(), reads: new Set(), pinned: false, bare: false });

function joined(parts, choice) {
  const found = empty();
  for (const part of parts) {
    part.fails.forEach((scan) => found.fails.add(scan));
    part.reads.forEach((scan) => found.reads.add(scan));
    found.pinned ||= part.pinned;
    found.bare ||= part.bare;
  }
  // What may be left out pins nothing.
  if (choice && found.pinned && parts.length > 1) found.bare = true;
  return found;
}

/** Of what may raise an error of its arguments. */
function failing(parts) {
  const found = joined(parts, false);
  if (!(found.pinned && !found.bare)) found.reads.forEach((scan) => found.fails.add(scan));
  return found;
}

/** Whether a cast cannot fail: to a wider number. (2: INT64, 7: DOUBLE, 23: NUMERIC, 24: BIGNUMERIC; 8: STRING.) */
function isWider(from, to) {
  const [a, b] = [from.type?.typeKind, to.type?.typeKind];
  return a === b || (a === 2 && [7, 23, 24].includes(b)) || (a === 23 && [7, 24].includes(b)) || (b === 8 && a !== 9);
}

let read = 0;
let unread = 0;
let narrowed = 0;
let bad = 0;
let schema;
let catalog;
for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  if (!schema) {
    schema = given;
    catalog = catalogOf(given);
    continue;
  }
  const analyze = async (text) => {
    try {
      const answer = await client.analyze({ sqlStatement: text, options, simpleCatalog: catalog });
      return { statement: answer.resolvedStatement };
    } catch (error) {
      return { error: error.details ?? String(error) };
    }
  };
  const answer = await analyze(given.sent);
  if (answer.error) {
    unread += 1;
    const original = await analyze(given.original);
    // The client between the analyzer and this program has its own bound. And in a condition of a query in an
    // expression, a column without its table's name is taken for that query's own; and one that has the name of
    // a table around hides that table's guard.
    const known = /maximum nesting depth|^Name \S+ not found inside|^Field name (hedgerow_guard|tenant_id) does not exist|^Cannot access field tenant_id/.test(answer.error);
    if (!original.error && known) narrowed += 1;
    if (!original.error && !known) {
      bad += 1;
      console.log(JSON.stringify({ faults: [`broken: ${answer.error}`], ...given }));
    } else if (process.env.VERBOSE) {
      console.log(JSON.stringify({ unread: answer.error, original: original.error, ...given }));
    }
    continue;
  }
  read += 1;
  const faults = new Reading(answer.statement, schema).faults();
  if (faults.length > 0) {
    bad += 1;
    console.log(JSON.stringify({ faults, ...given }));
  }
}

function catalogOf({ tables }) {
  const root = { name: 'root', builtinFunctionOptions: options, table: [], catalog: [] };
  for (const [path, { columns }] of Object.entries(tables)) {
    const names = path.split('.');
    let at = root;
    for (const name of names.slice(0, -1)) {
      let below = at.catalog.find((one) => one.name === name);
      if (!below) at.catalog.push((below = { name, table: [], catalog: [] }));
      at = below;
    }
    const column = Object.entries(columns).map(([name, type]) => ({ name, type: typeOf(type) }));
    at.table.push({ name: names.at(-1), fullName: path, serializationId: at.table.length + 1, column });
  }
  return root;
}

function typeOf(type) {
  if (Array.isArray(type)) return { typeKind: 'TYPE_ARRAY', arrayType: { elementType: typeOf(type[0]) } };
  if (typeof type === 'object') {
    const field = Object.entries(type).map(([fieldName, inner]) => ({ fieldName, fieldType: typeOf(inner) }));
    return { typeKind: 'TYPE_STRUCT', structType: { field } };
  }
  return { typeKind: `TYPE_${type}` };
}

console.log(JSON.stringify({ read, unread, narrowed, bad }));
terminateServer();
process.exit(bad > 0 ? 1 : 0);
