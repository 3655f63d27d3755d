'use strict';
// node -e <this> -- <Ghost's folder> <a database> <a table> <where to>: writes one table as SQL that makes it again.
//
// SQLite itself writes the values down (`quote`), so that each comes back as what it was.
const fs = require('node:fs');
const { createRequire } = require('node:module');

const [app, file, table, to] = process.argv.slice(1);
const Database = createRequire(`${app}/index.js`)('better-sqlite3');
const database = new Database(file, { readonly: true, fileMustExist: true });
const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name");
const names = tables.pluck().all();

const name = (text) => `"${text.replaceAll('"', '""')}"`;

const write = () => {
  const out = fs.openSync(to, 'wx', 0o600);
  const say = (text) => fs.writeFileSync(out, text); // goes on where the file ends
  const schema = "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'table' DESC, name";
  const [made, ...others] = database.prepare(schema).pluck().all(table);
  // A column that is computed cannot be written.
  const columns = database.pragma(`table_xinfo(${name(table)})`).filter((column) => column.hidden === 0).map((column) => name(column.name));
  const values = columns.map((column) => `quote(${column})`).join(" || ', ' || ");
  say(`BEGIN;\n${made};\n`);
  let rows = 0;
  let lines = [];
  const flush = () => {
    say(lines.join(''));
    lines = [];
  };
  for (const row of database.prepare(`SELECT ${values} FROM ${name(table)}`).pluck().iterate()) {
    lines.push(`INSERT INTO ${name(table)} (${columns.join(', ')}) VALUES (${row});\n`);
    rows += 1;
    if (lines.length === 500) flush();
  }
  flush();
  say(`${others.map((sql) => `${sql};\n`).join('')}COMMIT;\n`);
  fs.closeSync(out);
  return { rows };
};

process.stdout.write(JSON.stringify(names.includes(table) ? write() : { tables: names }));
