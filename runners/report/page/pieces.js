// Small components that all views use.

const percent = (value, digits = 1) => (value == null ? "–" : (100 * value).toFixed(digits));
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + percent(Math.abs(value));
const pValue = (p) => (p == null ? "undefined" : p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`);
const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

// For screen readers: which language a text is in, as far as its script tells.
const language = (text) => (/[\u3400-\u9fff]/.test(text) ? "zh" : undefined);

const MAPPING = /^M3-W(\d)-L(\d)$/;
const OTHER_MAPPINGS = { M1: "word form", M2: "synonym" };

function mappingName(mapping) {
  const [, wheel, level] = MAPPING.exec(mapping) ?? [];
  return wheel ? `wheel ${wheel}, level ${level}` : (OTHER_MAPPINGS[mapping] ?? mapping);
}

function Select({ label, value, options, onChange, id }) {
  return html`<div>
    <label class="form-label small mb-1" for=${id}>${label}</label>
    <select
      class="form-select form-select-sm"
      id=${id}
      value=${value}
      onChange=${(event) => onChange(event.target.value)}
    >
      ${options.map(
        ([key, text]) => html`<option value=${key} selected=${String(key) === String(value)}>
          ${text}
        </option>`,
      )}
    </select>
  </div>`;
}

// A name that may go on in the next line after each underscore.
const breakable = (name) =>
  name.split("_").flatMap((part, i) => (i ? ["_", html`<wbr />`, part] : [part]));

// What stands between backticks as code.
const withCode = (text) =>
  text.split("`").map((part, i) => (i % 2 ? html`<code>${part}</code>` : part));

const TONES = { ok: "success", empty: "secondary", "not done": "secondary" };

function Badge({ tone, children, title }) {
  return html`<span
    class="badge border bg-${tone}-subtle text-${tone}-emphasis border-${tone}-subtle"
    title=${title}
    >${children}</span
  >`;
}

const StatusBadge = ({ status, children }) =>
  html`<${Badge} tone=${TONES[status] ?? "danger"}>${children ?? status.replaceAll("_", " ")}<//>`;

function Warnings({ items }) {
  if (!items.length) return null;
  if (items.length === 1) {
    return html`<p class="alert alert-warning py-2 small" role="note">${withCode(items[0])}</p>`;
  }
  return html`<div class="alert alert-warning py-2 small" role="note">
    <ul class="mb-0 ps-3">
      ${items.map((item) => html`<li>${withCode(item)}</li>`)}
    </ul>
  </div>`;
}

// How a label is marked under a mapping: never by colour alone.
const MARKS = {
  matched: ["success", "✓", "matched"],
  surplus: ["warning", "+", "surplus"],
  missed: ["danger", "−", "missed"],
  outside: ["secondary", "?", "does not count here"],
  plain: ["secondary", "", ""],
};

function Label({ index, label, mark, mapping }) {
  const [tone, sign, meaning] = MARKS[mark];
  const word = index.labels[label];
  const code = index.codes[label][mapping];
  const group = code < 0 ? null : index.groups[mapping][code];
  const counts = group && group !== word ? `counts as ${group}` : "";
  const why = mark === "outside" ? whyOutside(index, label) : meaning;
  return html`<li
    class="chip chip-${mark} bg-${tone}-subtle text-${tone}-emphasis"
    title=${[why, counts].filter(Boolean).join(", ")}
    lang=${language(word)}
  >
    ${sign && html`<span aria-hidden="true" class="fw-bold">${sign} </span>`}${word}
    ${meaning && html`<span class="visually-hidden"> (${meaning})</span>`}
  </li>`;
}

function whyOutside(index, label) {
  const isKnown = index.codes[label].some((code) => code >= 0);
  return isKnown ? "not on this wheel" : "not in the vocabulary";
}

// What the labels count as under a mapping.
function groupsOf(index, labels, mapping) {
  return new Set(labels.map((label) => index.codes[label][mapping]).filter((code) => code >= 0));
}

function Labels({ index, labels, truth, mapping, name }) {
  const theirs = truth && groupsOf(index, truth, mapping);
  const ours = groupsOf(index, labels, mapping);
  const markOf = (label) => {
    const code = index.codes[label][mapping];
    if (code < 0) return "outside";
    return theirs ? (theirs.has(code) ? "matched" : "surplus") : "plain";
  };
  const missed = (truth ?? []).filter((label) => {
    const code = index.codes[label][mapping];
    return code >= 0 && !ours.has(code);
  });
  const shown = [
    ...labels.map((label) => [label, markOf(label)]),
    ...missed.map((label) => [label, "missed"]),
  ];
  if (!shown.length) return html`<p class="text-body-secondary small mb-1">no labels</p>`;
  return html`<ul class="chips" aria-label=${name}>
    ${shown.map(
      ([label, mark]) =>
        html`<${Label} index=${index} label=${label} mark=${mark} mapping=${mapping} />`,
    )}
  </ul>`;
}

// A text with every place of a search term marked; a very long one is cut until asked for.
function Text({ text, query, most = 1500 }) {
  const [isWhole, setWhole] = useState(false);
  if (!text) return null;
  const shown = isWhole ? text : text.slice(0, most);
  return html`<p class="words" lang=${language(text)}>${marked(shown, query)}</p>
    ${shown.length < text.length &&
    html`<button class="btn btn-sm btn-outline-secondary mb-2" onClick=${() => setWhole(true)}>
      Show all ${counted(text.length, "character")}
    </button>`}`;
}

function marked(text, query) {
  const wanted = query?.toLowerCase();
  const lower = text.toLowerCase();
  if (!wanted || lower.length !== text.length) return text;
  const pieces = [];
  let from = 0;
  for (let at; (at = lower.indexOf(wanted, from)) >= 0; from = at + wanted.length) {
    pieces.push(text.slice(from, at), html`<mark>${text.slice(at, at + wanted.length)}</mark>`);
  }
  return [...pieces, text.slice(from)];
}

// The width of an element in pixels, kept up to date.
function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    setWidth(ref.current.clientWidth);
    const observer = new ResizeObserver(() => ref.current && setWidth(ref.current.clientWidth));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
