// Text search over all that the models said. The lower-case text of each shard is made in idle time
// (at once, as soon as somebody searches); a query then looks through what is there and goes on as
// more comes.

class Search {
  constructor(index) {
    this.index = index;
    this.ready = new Array(index.starts.length).fill(null);
    this.missing = this.ready.length;
    this.isUrgent = false;
    this.query = null; // the one whose hits are kept: {text, row, hits, next}
    this.listeners = new Set();
    this.heads = joined(index.names.map((name, clip) => `${name}\n${index.subtitles[clip]}`));
  }

  // Make ready what is not ready yet; a second call changes nothing.
  start() {
    this.started ??= this.prepare();
  }

  async prepare() {
    for (let number = 0; number < this.ready.length; number++) {
      await (this.isUrgent ? nextTask() : idle());
      const { texts, more } = await unpack(`shard-${this.index.number}-${number}`);
      this.ready[number] = texts.map((row, i) =>
        joined(row.map((text, at) => [text, more[i][at]?.error ?? ""].join("\n"))),
      );
      this.missing--;
      if (this.query) this.listeners.forEach((listener) => listener());
    }
  }

  get share() {
    return 1 - this.missing / this.ready.length;
  }

  // (clips): 1 where the name, the subtitle, or what row `row` (null: any) said holds the text.
  find(text, row) {
    this.isUrgent = true;
    this.start();
    const wanted = text.toLowerCase();
    if (this.query?.text !== wanted || this.query.row !== row) {
      const hits = new Uint8Array(this.index.names.length);
      mark(this.heads, wanted, hits, 0);
      this.query = { text: wanted, row, hits, next: 0 };
    }
    const query = this.query;
    for (; this.ready[query.next]; query.next++) {
      const rows = this.ready[query.next];
      const start = this.index.starts[query.next];
      for (const each of row === null ? rows : [rows[row]]) mark(each, wanted, query.hits, start);
    }
    return query.hits;
  }
}

// Many texts as one, in lower case, with the place at which each begins: one long string is
// searched much faster than many short ones.
function joined(texts) {
  const lower = texts.map((text) => text.toLowerCase());
  const begins = new Uint32Array(lower.length + 1);
  for (let i = 0; i < lower.length; i++) begins[i + 1] = begins[i] + lower[i].length + 1;
  return { text: lower.join("\n"), begins };
}

// Mark the texts that hold `wanted`, which has no line end and so lies within one of them.
function mark({ text, begins }, wanted, hits, start) {
  let i = 0;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, begins[i + 1])) {
    while (begins[i + 1] <= at) i++;
    hits[start + i] = 1;
  }
}

function idle() {
  if (!window.requestIdleCallback) return new Promise((resolve) => setTimeout(resolve, 20));
  return new Promise((resolve) => requestIdleCallback(resolve, { timeout: 500 }));
}

function nextTask() {
  return new Promise((resolve) => setTimeout(resolve));
}
