// Two runs of one board side by side, the clips on which they differ most first.

function Compare({ board, number, state }) {
  const index = useLoaded(() => gallery(number), number);
  if (board.rows.length < 2) return html`<p>A comparison needs two runs on one leaderboard.</p>`;
  if (!index) return html`<p role="status">Unpacking the clips …</p>`;
  const [a, b] = chosenPair(board, state);
  const options = board.rows.map((row, i) => [i, row.name]);
  return html`
    <div class="filters">
      <${Select} id="a" label="First" value=${a} options=${options} onChange=${(a) => change(state, { a })} />
      <${Select} id="b" label="Second" value=${b} options=${options} onChange=${(b) => change(state, { b })} />
      <${Select}
        id="better"
        label="Clips"
        value=${state.better ?? ""}
        options=${[["", "all"], ["a", "the first is better"], ["b", "the second is better"]]}
        onChange=${(better) => change(state, { better })}
      />
      <${MappingSelect} index=${index} state=${state} />
    </div>
    ${a === b
      ? html`<p class="mt-3">Choose two different runs.</p>`
      : html`<${Test} ...${{ board, a, b }} /><${Differences} ...${{ board, index, state, a, b }} />`}
  `;
}

function chosenPair(board, state) {
  const of = (key, otherwise) => (board.rows[state[key]] ? Number(state[key]) : otherwise);
  const all = board.rows.map((_, number) => number);
  // Those with a test first; sorting leaves the rest as it was.
  all.sort((x, y) => !board.rows[y].excluded - !board.rows[x].excluded);
  const a = of("a", all[0]);
  return [a, of("b", all.find((number) => number !== a))];
}

function Test({ board, a, b }) {
  const found = board.pairs.find((each) => each.a === Math.min(a, b) && each.b === Math.max(a, b));
  const [one, other] = [board.rows[a], board.rows[b]];
  if (!found) {
    const excluded = [one, other].filter((row) => row.excluded);
    return html`<p class="alert alert-warning py-2 small my-3">
      No test of ${excluded.map((row) => `${row.name} (${row.excluded})`).join(" and ")}.
    </p>`;
  }
  const sign = a < b ? 1 : -1;
  const ends = found.interval.map((each) => sign * each).sort((x, y) => x - y);
  const ahead = sign * found.difference > 0 ? one : other;
  return html`<section class="card my-3" aria-label="Paired test">
    <div class="card-body py-2">
      <h2 class="h6 mb-1">
        ${verdict(board, found, ahead)} in ${figureName(board.primary)}
      </h2>
      <p class="mb-0">
        ${one.name} less ${other.name}: ${signed(sign * found.difference)} points${
          found.p != null &&
          html` (95 % interval${board.pairs.length > 1 && ` of all ${board.pairs.length} pairs at once`}
          ${" "}${signed(ends[0])} to ${signed(ends[1])}), p\u00a0${pValue(found.p)}`
        }.
      </p>
      <p class="mb-0 small text-body-secondary">
        The runs score differently on ${found.differing.toLocaleString("en")} of
        ${" "}${counted(board.test.clips, "clip")}.
        ${found.p != null && board.pairs.length > 1 && html` This pair alone: p\u00a0${pValue(found.p_alone)}.`}
        ${found.p_equivalent != null &&
        html` A difference of ${points(board.test.margin)} or more: p\u00a0${pValue(found.p_equivalent)}.`}
      </p>
      <${Explained} board=${board} />
    </div>
  </section>`;
}

// The same p that the leaderboard's marks rest on.
function verdict(board, { p, p_equivalent, differing }, ahead) {
  if (p == null) return "Not tested";
  if (!differing) return "The same on every clip";
  if (p < board.test.alpha) return `${ahead.name} is better`;
  if (p_equivalent < board.test.alpha) return `Equivalent within ${points(board.test.margin)}`;
  return "No clear difference";
}

const points = (share) => counted(100 * share, "point");

// How to read the tests of this board.
function Explained({ board }) {
  return html`<details class="small">
    <summary>How to read this</summary>
    <ul class="mb-0">
      ${[board.test.detectable, ...board.test.notes, ...board.test.explained].filter(Boolean).map((item) => html`<li>${sentence(item)}</li>`)}
    </ul>
  </details>`;
}

const PAIRS = 20;

function Differences({ board, index, state, a, b }) {
  const [count, setCount] = useState(PAIRS);
  useEffect(() => setCount(PAIRS), [a, b, state.better]);
  const all = useMemo(() => differences(index, a, b), [index, a, b]);
  const better = { a: all.filter((each) => each.by > 0), b: all.filter((each) => each.by < 0) };
  const shown = better[state.better] ?? all;
  const equal = all.length - better.a.length - better.b.length;
  return html`<p role="status" class="small text-body-secondary" id="found">
      ${board.rows[a].name} is better on ${counted(better.a.length, "clip")}, ${board.rows[b].name} on
      ${" "}${better.b.length.toLocaleString("en")}; ${equal.toLocaleString("en")} are level. Clips by size of the difference:
    </p>
    ${!all.length && html`<p>No clip counts for both.</p>`}
    ${shown.slice(0, count).map(
      (each) => html`<${Pair} key=${each.clip} ...${{ board, index, state, a, b, ...each }} />`,
    )}
    ${count < shown.length &&
    html`<button class="btn btn-outline-secondary btn-sm" onClick=${() => setCount(count + PAIRS)}>
      Show ${Math.min(PAIRS, shown.length - count)} more
    </button>`}`;
}

// The clips that count for both, with how much better the first run is, in points.
function differences(index, a, b) {
  const [ours, theirs] = [index.rows[a].score, index.rows[b].score];
  return ours
    .map((score, clip) => ({ clip, by: score - theirs[clip] }))
    .filter(({ clip }) => ours[clip] >= 0 && theirs[clip] >= 0)
    .sort((x, y) => Math.abs(y.by) - Math.abs(x.by));
}

function lead(by) {
  if (!by) return "level";
  return `${by > 0 ? "first" : "second"} ahead by ${counted(Math.abs(by), "point")}`;
}

function Pair({ board, index, state, a, b, clip, by }) {
  const said = useLoaded(() => answers(index, clip), clip);
  const mapping = chosenMapping(index, state);
  return html`<article class="border-top pt-2 mb-3">
    <h3 class="h6 d-flex flex-wrap gap-2 mb-1">
      <a class="text-break" href=${link({}, { view: "gallery", board: state.board, clip: index.names[clip], wheel: state.wheel })}>
        ${breakable(index.names[clip])}
      </a>
      <span class="ms-auto fw-normal">${lead(by)}</span>
    </h3>
    ${index.subtitles[clip] && html`<p class="small text-body-secondary mb-1" lang=${language(index.subtitles[clip])}>${index.subtitles[clip].slice(0, 300)}</p>`}
    <div class="d-flex flex-wrap gap-2 align-items-baseline">
      <span class="small">truth</span>
      <${Labels} index=${index} labels=${index.truth[clip]} mapping=${mapping} name="Ground truth" />
    </div>
    <div class="row g-2">
      ${[a, b].map(
        (number) => html`<div class="col-md-6">
          <${Answer} ...${{ index, row: board.rows[number], number, clip, mapping, state: {}, said: said?.[number] }} />
        </div>`,
      )}
    </div>
  </article>`;
}
