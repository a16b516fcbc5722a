// The parts of the page's data: JSON, gzip, base64, each in a script element of its own.

const { h, render, Fragment } = preact;
const { useState, useEffect, useLayoutEffect, useMemo, useRef } = preactHooks;
const html = htm.bind(h);

const parsed = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", () => resolve());
});

function bytesOf(element) {
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The JSON of one part; waits for the rest of the file only if the part is not there yet.
async function unpack(name) {
  if (!document.getElementById(name)) await parsed;
  const { writable, readable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  writer.write(bytesOf(document.getElementById(name)));
  writer.close();
  return JSON.parse(await textOf(readable));
}

// The same as Response.text(), which takes twice as long in Chromium.
async function textOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let next; !(next = await reader.read()).done; ) {
    text += decoder.decode(next.value, { stream: true });
  }
  return text + decoder.decode();
}

const once = new Map();

// What `make` resolves to, made at the first call with this key.
function cached(key, make) {
  if (!once.has(key)) once.set(key, make());
  return once.get(key);
}

// The index of a board's gallery, with what follows from it.
function gallery(board) {
  return cached(`index-${board}`, async () => {
    const index = await unpack(`index-${board}`);
    index.number = board;
    index.mean = meanScores(index);
    index.places = new Map(index.names.map((name, clip) => [name, clip]));
    index.search = new Search(index);
    return index;
  });
}

// For each clip the mean of its answers' scores, null where none counts; the truth's and dry runs' do not.
function meanScores(index) {
  const contestants = index.rows.filter((row) => row.contends);
  return index.names.map((_, clip) => {
    const scores = contestants.map((row) => row.score[clip]).filter((score) => score >= 0);
    return scores.length ? scores.reduce((a, b) => a + b) / scores.length : null;
  });
}

const SHARDS_KEPT = 8;
const shards = new Map(); // the last ones looked at, the oldest first

const SEPARATOR = "\0"; // between the texts of one row in a shard

function shard(index, number) {
  const name = `shard-${index.number}-${number}`;
  const found = shards.get(name) ?? unpack(name);
  shards.delete(name);
  shards.set(name, found);
  if (shards.size > SHARDS_KEPT) shards.delete(shards.keys().next().value);
  return found;
}

function shardOf(index, clip) {
  let number = index.starts.length - 1;
  while (index.starts[number] > clip) number--;
  return number;
}

// What every row said of a clip: [{text, error, thinking, notes, ...}].
async function answers(index, clip) {
  const number = shardOf(index, clip);
  const at = clip - index.starts[number];
  const { texts, more } = await shard(index, number);
  return texts.map((row, i) => ({ text: row.split(SEPARATOR)[at], ...more[i][at] }));
}

// The address that a video or audio element can play.
async function playable(address) {
  if (!address.startsWith("media:")) return address;
  return cached(address, async () => {
    if (!document.getElementById(address)) await parsed;
    const element = document.getElementById(address);
    return URL.createObjectURL(new Blob([bytesOf(element)], { type: element.dataset.type }));
  });
}

// The value of a promise, null until it is there; asked for anew when `key` changes.
function useLoaded(load, key) {
  const [loaded, setLoaded] = useState({ key: null, value: null });
  useEffect(() => {
    let isWanted = true;
    load().then((value) => isWanted && setLoaded({ key, value }));
    return () => (isWanted = false);
  }, [key]);
  return loaded.key === key ? loaded.value : null;
}
