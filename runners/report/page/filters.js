// Which clips the gallery lists, and in which order.

const SORTS = {
  "": "data set",
  worst: "worst first",
  best: "best first",
  disagreement: "most disagreement first",
  name: "name",
};

const BY_SCORE = ["worst", "best"];
const FAILED = "failed";

// The numbers of the clips that pass, in order; `hits` comes from the text search, or is null.
function selectClips(index, state, hits) {
  const row = chosenRow(index, state);
  const rows = row === null ? index.rows : [index.rows[row]];
  const keeps = [
    hits && ((clip) => hits[clip]),
    state.status && statusTest(index, rows, state.status),
    state.label && labelTest(index, rows, state.label),
    state.disagree && ((clip) => index.disagreement[clip] >= Number(state.disagree)),
  ].filter(Boolean);
  const clips = [];
  for (let clip = 0; clip < index.names.length; clip++) {
    if (keeps.every((keep) => keep(clip))) clips.push(clip);
  }
  return order(index, clips, state.sort, row);
}

function chosenRow(index, state) {
  const row = Number(state.row ?? NaN);
  return index.rows[row] ? row : null;
}

// Of each clip the score of a row, or the mean over all; see isKnown.
function scores(index, row) {
  return row === null ? index.mean : index.rows[row].score;
}

// Scores of clips that do not count are null or -1, the disagreement of those without labels null.
function isKnown(figure) {
  return figure !== null && figure >= 0;
}

// Whether clips have scores to order them by; without true labels they have none.
function isScored(index) {
  return index.mean.some(isKnown);
}

function statusTest(index, rows, wanted) {
  const isFailed = (status) => status >= 0 && !["ok", "empty"].includes(index.statuses[status]);
  const number = index.statuses.indexOf(wanted); // -1 for "not done", as in the index
  const test = wanted === FAILED ? isFailed : (status) => status === number;
  return (clip) => rows.some((row) => test(row.status[clip]));
}

// A label as it is; where none is called so, those that begin so.
function labelTest(index, rows, text) {
  const wanted = text.trim().toLowerCase();
  const exact = index.labels.indexOf(wanted);
  const numbers = new Set(exact >= 0 ? [exact] : []);
  if (exact < 0) {
    index.labels.forEach((label, i) => label.startsWith(wanted) && numbers.add(i));
  }
  const has = (labels) => labels.some((label) => numbers.has(label));
  return (clip) => has(index.truth[clip]) || rows.some((row) => has(row.labels[clip]));
}

function order(index, clips, sort, row) {
  if (BY_SCORE.includes(sort) && isScored(index)) {
    const sign = sort === "worst" ? 1 : -1;
    const score = scores(index, row);
    return clips.filter((clip) => isKnown(score[clip])).sort((a, b) => sign * (score[a] - score[b]));
  }
  if (sort === "disagreement") {
    return clips.sort((a, b) => index.disagreement[b] - index.disagreement[a]);
  }
  if (sort === "name") {
    return clips.sort((a, b) => (index.names[a] < index.names[b] ? -1 : 1));
  }
  return clips;
}

function Filters({ board, index, state }) {
  const set = (key) => (value) => change(state, { [key]: value, clip: "" });
  const statuses = ["", ...index.statuses.slice(0, 2), FAILED, ...index.statuses.slice(2), "not done"];
  const frequent = useMemo(() => frequentLabels(index), [index]);
  const several = board.rows.length > 1;
  // On a phone all but the text are folded away.
  const [isOpen, setOpen] = useState(false);
  return html`<form
    class=${`filters ${isOpen ? "" : "is-folded"}`}
    role="search"
    onSubmit=${(event) => event.preventDefault()}
  >
    <${Field} id="q" label="Text" type="search" value=${state.q} onInput=${set("q")} />
    <button
      type="button"
      class="btn btn-sm btn-outline-secondary d-md-none"
      id="more"
      aria-expanded=${isOpen}
      onClick=${() => setOpen(!isOpen)}
    >
      ${isOpen ? "Fewer filters" : "More filters"}
    </button>
    <${Field} id="label" label="Label" list="labels" value=${state.label} onInput=${set("label")} />
    <datalist id="labels">${frequent.map((label) => html`<option value=${label} />`)}</datalist>
    <${Select}
      id="by"
      label="Baseline"
      value=${state.row ?? ""}
      options=${[["", "any"], ...board.rows.map((row, i) => [i, row.name])]}
      onChange=${set("row")}
    />
    <${Select}
      id="status"
      label="Status"
      value=${state.status ?? ""}
      options=${statuses.map((status) => [status, status.replaceAll("_", " ") || "any"])}
      onChange=${set("status")}
    />
    ${several &&
    html`<${Select}
      id="disagree"
      label="Disagreement"
      value=${state.disagree ?? ""}
      options=${[["", "any"], ...[25, 50, 75].map((least) => [least, `at least ${least} %`])]}
      onChange=${set("disagree")}
    />`}
    <${Select}
      id="order"
      label="Order"
      value=${state.sort ?? ""}
      options=${Object.entries(SORTS).filter(([key]) => isScored(index) || !BY_SCORE.includes(key))}
      onChange=${set("sort")}
    />
    <${MappingSelect} index=${index} state=${state} />
  </form>`;
}

function MappingSelect({ index, state }) {
  if (index.mappings.length < 2) return null;
  return html`<${Select}
    id="mapping"
    label="Match under"
    value=${index.mappings[chosenMapping(index, state)]}
    options=${index.mappings.map((each) => [each, mappingName(each)])}
    onChange=${(value) => change(state, { wheel: value })}
  />`;
}

function chosenMapping(index, state) {
  const found = index.mappings.indexOf(state.wheel);
  return found >= 0 ? found : Math.max(0, index.mappings.indexOf("M3-W1-L1"));
}

function Field({ id, label, value, onInput, type = "text", list }) {
  return html`<div>
    <label class="form-label small mb-1" for=${id}>${label}</label>
    <input
      class="form-control form-control-sm"
      id=${id}
      type=${type}
      list=${list}
      value=${value ?? ""}
      autocomplete="off"
      onInput=${(event) => onInput(event.target.value)}
    />
  </div>`;
}

function frequentLabels(index) {
  const counts = new Map();
  const add = (labels) => labels.forEach((each) => counts.set(each, (counts.get(each) ?? 0) + 1));
  [index.truth, ...index.rows.map((row) => row.labels)].forEach((clips) => clips.forEach(add));
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 200);
  return most.map(([label]) => index.labels[label]);
}
