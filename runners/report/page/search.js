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
    const heads = index.names.map((name, clip) => `${name}\n${index.subtitles[clip]}`);
    this.heads = searchable(heads.join(SEPARATOR));
  }

  // Make ready what is not ready yet; a second call changes nothing.
  start() {
    this.started ??= this.prepare();
  }

  async prepare() {
    for (let number = 0; number < this.ready.length; number++) {
      await (this.isUrgent ? nextTask() : idle());
      const { texts, more } = await unpack(`shard-${this.index.number}-${number}`);
      this.ready[number] = texts.map((text, row) => searchable(text, more[row]));
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

// Texts joined to one, in lower case, and the errors among what else there is of them.
function searchable(text, more = {}) {
  const errors = Object.entries(more).filter(([, each]) => each.error);
  return {
    text: text.toLowerCase(),
    errors: errors.map(([clip, { error }]) => [Number(clip), error.toLowerCase()]),
  };
}

// Mark the clips whose text or error holds `wanted`; the first of them has the number `start`.
function mark({ text, errors }, wanted, hits, start) {
  let clip = start;
  let from = 0; // up to here the separators are counted
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, from)) {
    for (let end; (end = text.indexOf(SEPARATOR, from)) >= 0 && end < at; from = end + 1) clip++;
    hits[clip] = 1;
    const end = text.indexOf(SEPARATOR, at);
    if (end < 0) break;
    clip++;
    from = end + 1;
  }
  for (const [number, error] of errors) if (error.includes(wanted)) hits[start + number] = 1;
}

function idle() {
  if (!window.requestIdleCallback) return new Promise((resolve) => setTimeout(resolve, 20));
  return new Promise((resolve) => requestIdleCallback(resolve, { timeout: 500 }));
}

// Lets the page answer in between; a timer would wait four milliseconds each time.
function nextTask() {
  return window.scheduler?.yield?.() ?? new Promise((resolve) => setTimeout(resolve));
}
