'use strict';
// node -e <this> -- <Ghost's folder> <an older database> <a newer one> <a file>: what changed, by title, into the file.
const { createHash } = require('node:crypto');
const { createRequire } = require('node:module');
const { writeFileSync } = require('node:fs');

const [app, older, newer, to] = process.argv.slice(1);
const Database = createRequire(`${app}/index.js`)('better-sqlite3');
const [before, after] = [older, newer].map((file) => new Database(file, { readonly: true, fileMustExist: true }));

const MOST_TITLES = 2000;
const LONGEST_TITLE = 200;
// What changes without anybody changing anything.
const IDLE = new Set([
  'updated_at', 'updated_by', 'last_seen_at', 'last_commented_at', 'email_count', 'email_opened_count', 'email_open_rate',
]);

const columns = (database, table) => database.pragma(`table_info(${table})`).map((column) => column.name);

// A Ghost of another version may have other columns: what both have counts.
function rows(database, table, shared, where, title) {
  const found = new Map();
  for (const row of database.prepare(`SELECT ${shared.map((name) => `"${name}"`).join(', ')} FROM ${table} ${where}`).iterate()) {
    const counted = shared.filter((name) => table === 'posts' || !IDLE.has(name)).map((name) => row[name]);
    const sum = createHash('sha256').update(JSON.stringify(counted)).digest('base64');
    found.set(row.id, { sum, title: String(title(row) ?? '').slice(0, LONGEST_TITLE) });
  }
  return found;
}

function compare(table, where, title) {
  const there = new Set(columns(before, table));
  const shared = columns(after, table).filter((name) => there.has(name));
  if (!shared.includes('id')) return undefined;
  const [old, now] = [before, after].map((database) => rows(database, table, shared, where, title));
  const titles = (entries) => {
    const all = entries.map(([, row]) => row.title).sort();
    return { count: all.length, titles: all.slice(0, MOST_TITLES) };
  };
  return {
    added: titles([...now].filter(([id]) => !old.has(id))),
    changed: titles([...now].filter(([id, row]) => old.has(id) && old.get(id).sum !== row.sum)),
    removed: titles([...old].filter(([id]) => !now.has(id))),
  };
}

const titled = (row) => row.title;
const answer = {
  posts: compare('posts', "WHERE type = 'post'", titled),
  pages: compare('posts', "WHERE type = 'page'", titled),
  members: compare('members', '', (row) => (row.name ? `${row.name} <${row.email}>` : row.email)),
  tags: compare('tags', '', (row) => row.name),
};
writeFileSync(to, JSON.stringify(answer));
