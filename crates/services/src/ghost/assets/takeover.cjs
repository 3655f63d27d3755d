'use strict';
// node -e <this> -- <Ghost's folder> <its configuration> <a SQLite database>: puts all that is in the SQLite database of
// a Ghost into the place of what is in the MariaDB database that the configuration names. A Ghost of the same version has
// made its tables there, and none runs now.
//
// All of it is one transaction: killed at any time, the database is as it was.
const fs = require('node:fs');
const { createRequire } = require('node:module');

const [app, configuration, file] = process.argv.slice(1);
const ghost = createRequire(`${app}/index.js`);

/** What Ghost's migrations keep for themselves; the same on both sides, or nothing is done. */
const OWN = new Set(['migrations', 'migrations_lock']);
const ROWS = 200;
/** Characters in one statement: far below the 16 MiB that MariaDB takes by default. */
const LARGEST = 1 << 20;
const REFUSED = 65;

class Refusal extends Error {}

const differ = (what, here, there) => {
  const lack = (some, others) => some.filter((name) => !others.includes(name)).slice(0, 5).join(', ') || 'nothing';
  const told = `only in SQLite: ${lack(here, there)}; only in MariaDB: ${lack(there, here)}`;
  return new Refusal(`the ${what} are not the same, ${told}: both must be of one version of Ghost`);
};
const same = (what, here, there) => {
  if (JSON.stringify([...here].sort()) !== JSON.stringify([...there].sort())) throw differ(what, here, there);
};

const two = (number) => String(number).padStart(2, '0');

/** MariaDB keeps whole seconds and would round; a time that is rounded up may be in the future. */
const time = (value) => {
  // Milliseconds, ISO 8601, or SQLite's own way of writing UTC.
  const isSqlites = typeof value === 'string' && /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?$/.test(value);
  const date = new Date(isSqlites ? `${value.replace(' ', 'T')}Z` : value);
  if (Number.isNaN(date.getTime())) throw new Refusal(`${JSON.stringify(value)} is not a time`);
  const day = `${String(date.getUTCFullYear()).padStart(4, '0')}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`;
  return `${day} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
};
const kinds = { datetime: time, timestamp: time, date: (value) => time(value).slice(0, 10) };
const converted = (kind) => {
  const convert = kinds[kind];
  return convert ? (value) => (value === null ? null : convert(value)) : (value) => value;
};

async function takeOver(sqlite, mariadb) {
  const all = (sql) => sqlite.prepare(sql).pluck().all();
  const ask = async (sql, values) => (await mariadb.query(sql, values))[0];
  const name = (text) => `"${text.replaceAll('"', '""')}"`;

  if (sqlite.pragma('integrity_check', { simple: true }) !== 'ok') throw new Refusal('the SQLite database is damaged');
  if (sqlite.pragma('foreign_key_check').length > 0) throw new Refusal('rows of the SQLite database refer to rows that are not there');

  const tables = all("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
  const columns = new Map();
  const described = await ask(
    'SELECT table_name AS t, column_name AS c, data_type AS kind FROM information_schema.columns'
    + ' JOIN information_schema.tables USING (table_schema, table_name)'
    + " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND is_generated = 'NEVER' ORDER BY ordinal_position",
  );
  for (const { t, c, kind } of described) columns.set(t, [...(columns.get(t) ?? []), [c, kind]]);
  same('tables', tables, [...columns.keys()]);
  const migrations = await ask("SELECT CONCAT(version, ' ', name) AS migration FROM migrations");
  same('migrations', all("SELECT version || ' ' || name FROM migrations"), migrations.map((row) => row.migration));

  const taken = {};
  await mariadb.query("SET SESSION foreign_key_checks = 0, sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'");
  await mariadb.query('START TRANSACTION');
  for (const table of tables.filter((table) => !OWN.has(table)).sort()) {
    const there = columns.get(table);
    const here = sqlite.pragma(`table_xinfo(${name(table)})`).filter((column) => column.hidden === 0);
    same(`columns of ${table}`, here.map((column) => column.name), there.map(([column]) => column));
    await mariadb.query('DELETE FROM ??', [table]);
    const convert = there.map(([, kind]) => converted(kind));
    const read = sqlite.prepare(`SELECT ${there.map(([column]) => name(column)).join(', ')} FROM ${name(table)}`).raw();
    let rows = [];
    let size = 0;
    let count = 0;
    const flush = async () => {
      if (rows.length === 0) return;
      try {
        await mariadb.query('INSERT INTO ?? (??) VALUES ?', [table, there.map(([column]) => column), rows]);
      } catch (error) {
        // What one of them takes and the other does not: two texts that MariaDB holds for equal, or one that is too long.
        throw error.fatal ? error : new Refusal(`MariaDB does not take a row of ${table}: ${error.sqlMessage}`);
      }
      [rows, size] = [[], 0];
    };
    for (const row of read.iterate()) {
      rows.push(row.map((value, at) => convert[at](value)));
      size += row.reduce((sum, value) => sum + (value?.length ?? 8), 0);
      count += 1;
      if (rows.length === ROWS || size > LARGEST) await flush();
    }
    await flush();
    const [{ n }] = await ask('SELECT COUNT(*) AS n FROM ??', [table]);
    if (Number(n) !== count) throw new Error(`${table} has ${n} rows, not ${count}`);
    taken[table] = count;
  }
  await mariadb.query('COMMIT');
  return { tables: taken };
}

async function main() {
  const { connection } = JSON.parse(fs.readFileSync(configuration, 'utf8')).database;
  const Database = ghost('better-sqlite3');
  const sqlite = new Database(file, { readonly: true, fileMustExist: true });
  const mariadb = await ghost('mysql2/promise').createConnection({ ...connection, charset: 'utf8mb4', timezone: 'Z' });
  try {
    return await takeOver(sqlite, mariadb);
  } finally {
    await mariadb.end();
  }
}

main().then(
  (answer) => process.stdout.write(JSON.stringify(answer)),
  (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = error instanceof Refusal ? REFUSED : 1;
  },
);
