// The leaderboard of one board: table, plots, and what a reader of the figures must know.

function Leaderboard({ board, state }) {
  const figure = board.figures.includes(state.figure) ? state.figure : board.primary;
  const choices = board.figures.filter((name) => !/\/(precision|recall)$/.test(name));
  if (!board.figures.length)
    return html`<${Warnings} items=${boardWarnings(board)} />
      <${BoardTable} board=${board} state=${state} columns=${[]} name="Runs" />
      <${LabelCounts} board=${board} />
      <${Inputs} board=${board} state=${state} />`;
  return html`
    <${Warnings} items=${boardWarnings(board)} />
    <${BoardTable} board=${board} state=${state} columns=${board.headlines} name="Figures" />
    <${Detectable} board=${board} />
    <${Legend} board=${board} />
    <${Variance} board=${board} />
    <${LabelCounts} board=${board} />
    <${Inputs} board=${board} state=${state} />
    <div class="d-flex flex-wrap gap-3 align-items-end mt-4 mb-2">
      <h2 class="h5 mb-1 me-auto">At a glance</h2>
      <${Select}
        id="figure"
        label="Figure"
        value=${figure}
        options=${choices.map((name) => [name, figureName(name)])}
        onChange=${(value) => change(state, { figure: value })}
      />
    </div>
    <div class="row g-4">
      <section class="col-lg-6" aria-label="Forest plot">
        <h3 class="h6">
          ${figureName(figure)}, ${board.unbounded.includes(figure) ? "times 100" : "in percent"}${
            board.rows.some((row) => row.figures[board.figures.indexOf(figure)]?.[1] != null) &&
            `, with ${100 * board.confidence} % intervals`
          }
        </h3>
        <${ForestPlot} board=${board} figure=${figure} />
      </section>
      <${PrecisionRecall} board=${board} figure=${figure} />
    </div>
    <${Wheels} board=${board} state=${state} />
    <${Clusters} board=${board} state=${state} />
  `;
}

function PrecisionRecall({ board, figure }) {
  const has = (name) => board.figures.includes(`${name}/precision`);
  // An average over mappings (M-avg) has no precision of its own.
  const shown = [figure, ...board.headlines].find(has);
  if (!shown) return null;
  return html`<section class="col-lg-6" aria-label="Precision against recall">
    <h3 class="h6">Precision against recall, ${figureName(shown)}</h3>
    <${PrecisionRecallPlot} board=${board} figure=${shown} />
    <p class="small text-body-secondary">
      A point bears the rank of its row; the curves join points of equal F.
    </p>
  </section>`;
}

function boardWarnings(board) {
  const all = board.rows.length;
  const of = ([warning, names]) => {
    if (names.length === all) return warning;
    return `${warning} (${names.length > 5 ? `${names.length} of ${all} runs` : names.join(", ")})`;
  };
  const warnings = board.warnings.map(of);
  if (!board.figures.length) {
    const labels = board.labels.labels ? ["there is no truth, so labels are counted"] : [];
    return [...labels, ...warnings].map(capital);
  }
  if (board.comparable) return warnings.map(capital);
  const reasons = board.notes.filter((note) => /not comparable|no clip counts/.test(note));
  const otherwise = "not comparable with papers: there is no truth here, the figures are those that the runs kept";
  return [...(reasons.length ? reasons : [otherwise]), ...warnings].map(capital);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
// The symbol p stays small.
const sentence = (text) => (text.startsWith("p ") ? text : capital(text));

function figureName(name) {
  const [first, part] = name.split("/");
  return mappingName(first) + (part ? `, ${part}` : "");
}

function shortName(name) {
  const [, wheel, level] = MAPPING.exec(name) ?? [];
  const text = wheel ? `W${wheel} L${level}` : figureName(name);
  return wheel ? html`<abbr title=${mappingName(name)}>${text}</abbr>` : text;
}

// Runs that answered no clip are folded away, unless there are no others.
function BoardTable(properties) {
  const { board, isBrief } = properties;
  const answered = board.rows.filter((row) => row.answered);
  const failed = answered.length ? board.rows.filter((row) => !row.answered) : [];
  const rows = answered.length ? answered : board.rows;
  return html`<${Rows} ...${{ ...properties, shown: rows }} />
    ${!isBrief && failed.length > 0 && html`<details class="small mb-3" id="failed-starts">
      <summary>${counted(failed.length, "run")} that answered no clip</summary>
      <${Rows} ...${{ ...properties, shown: failed, columns: [], name: "Runs that answered no clip" }} />
    </details>`}`;
}

function Rows({ board, state, columns, name, isBrief, shown }) {
  const sort = state.sort ?? "";
  const [key, isUp] = [sort.replace(/^-/, ""), sort.startsWith("-")];
  const rows = sorted(board, key, isUp).filter(({ row }) => shown.includes(row));
  const marks = !isBrief && board.test != null;
  return html`<div class="table-responsive" tabindex="0" role="region" aria-label=${name}>
    <table class="table table-sm align-middle board">
      <caption class="visually-hidden">
        ${name}: ${board.dataset}, ${board.metric}; in percent
      </caption>
      <thead>
        <tr>
          <th scope="col" class="text-end">#</th>
          <${SortHeader} id="name" text="baseline" ...${{ state, key_: key, isUp }} />
          ${columns.map(
            (column) => html`<${SortHeader}
              id=${column}
              text=${isBrief ? shortName(column) : figureName(column)}
              isNumber
              ...${{ state, key_: key, isUp }}
            />`,
          )}
          ${marks && html`<th scope="col" class="besides">against the best</th>`}
          ${!isBrief && html`<th scope="col" class="besides">trained on it</th>`}
          ${!isBrief && html`<th scope="col" class="besides">clips</th>`}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ row, rank }) => html`<tr>
            <td class="text-end text-body-secondary">${rank}</td>
            <th scope="row" class="fw-normal">
              <${RowName} row=${row} isBrief=${isBrief} isExplained=${marks} />
            </th>
            ${columns.map((column) => html`<td class="text-end"><${Figure} board=${board} row=${row} name=${column} isBrief=${isBrief} /></td>`)}
            ${marks && html`<td class="besides"><${AgainstBest} board=${board} row=${row} /></td>`}
            ${!isBrief && html`<td class="besides">${row.settings["trained on it"]}</td>`}
            ${!isBrief && html`<td class="besides"><${Statuses} board=${board} row=${row} /></td>`}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function sorted(board, key, isUp) {
  const rows = board.rows.map((row, i) => ({ row, rank: i + 1 }));
  const at = board.figures.indexOf(key);
  if (key === "name") rows.sort((a, b) => a.row.name.localeCompare(b.row.name));
  else if (at >= 0) {
    const value = ({ row }) => row.figures[at]?.[0] ?? -1;
    rows.sort((a, b) => value(b) - value(a));
  }
  return isUp ? rows.reverse() : rows;
}

function SortHeader({ id, text, isNumber, state, key_, isUp }) {
  const isSorted = key_ === id;
  const next = isSorted && !isUp ? `-${id}` : id;
  // Names go up first, figures down.
  const direction = (id === "name") === !isUp ? "ascending" : "descending";
  return html`<th
    scope="col"
    class=${isNumber ? "text-end" : ""}
    aria-sort=${isSorted ? direction : undefined}
  >
    <button class="btn-sort" onClick=${() => change(state, { sort: next })}>
      ${text}<span aria-hidden="true"
        >${isSorted ? (direction === "ascending" ? " ▲" : " ▼") : ""}</span
      >
    </button>
  </th>`;
}

function RowName({ row, isBrief, isExplained }) {
  if (isBrief) return breakable(row.name);
  const tags = row.warnings.map((warning) => [warning.split(":")[0], warning]);
  return html`<span class="fw-semibold">${breakable(row.name)}</span>
    ${row.title && row.title !== row.name && html`<span class="title small text-body-secondary"> ${row.title}</span>`}
    ${tags.map(([tag, warning]) => !(isExplained && tag === row.excluded) && html` <${Badge} tone="warning" title=${warning}>${tag}<//>`)}
    <details class="small">
      <summary>details<span class="visually-hidden"> of ${row.name}</span></summary>
      <p class="mb-1">
        ${Object.entries(row.settings).map(([key, value]) => `${key}=${value}`).join(", ")}
      </p>
      <p class="mb-1 text-break">${row.folder}</p>
      ${[...row.warnings, ...row.notes].map((note) => html`<p class="mb-1">${note}</p>`)}
    </details>`;
}

function Figure({ board, row, name, isBrief }) {
  const found = row.figures[board.figures.indexOf(name)];
  if (!found) return "–";
  const [value, low, high] = found;
  return html`${percent(value)}
    ${!isBrief &&
    low != null &&
    html`<div class="small text-body-secondary text-nowrap">${percent(low)} to ${percent(high)}</div>`}
    ${!isBrief && name === board.primary && row.spread && html`<${Spread} spread=${row.spread} />`}`;
}

// What another seed of the extractor changes, which the interval over clips does not hold.
function Spread({ spread: { readings, s, rerun } }) {
  return html`<div class="small text-body-secondary text-nowrap">
    s ${(100 * s).toFixed(2)} of ${readings}, rerun ±${percent(rerun)}
  </div>`;
}

// The mark of the paired comparison against the best run, and what it rests on.
function AgainstBest({ board, row }) {
  if (row.excluded) return html`<span class="text-body-secondary">${row.excluded}</span>`;
  const isBest = row.name === board.best;
  return html`${isBest ? html`<${Badge} tone="success">best<//>` : html`<${Behind} ...${{ board, row }} />`}
    <div class="small text-body-secondary text-nowrap">
      ${[row.ranks && rankText(row.ranks), row.best != null && `best in ${Math.round(100 * row.best)} %`]
        .filter(Boolean)
        .join(", ")}
    </div>`;
}

function Behind({ board, row }) {
  const place = (name) => board.rows.findIndex((each) => each.name === name);
  const [best, own] = [place(board.best), place(row.name)];
  const found = board.pairs.find(({ a, b }) => (a === best && b === own) || (a === own && b === best));
  if (!found) return html`<span class="text-body-secondary">not tested</span>`;
  const behind = found.a === own ? found.difference : -found.difference;
  const isWorse = found.p != null && found.p < board.test.alpha && behind < 0;
  return html`<span class="text-nowrap">
      ${signed(behind)}${" "}
      ${isWorse ? "* worse" : html`<${Badge} tone="secondary">${found.p == null ? "not tested" : "no clear difference"}<//>`}
    </span>
    ${found.p != null && html`<div class="small text-body-secondary text-nowrap">p ${pValue(found.p)}</div>`}`;
}

const rankText = ([low, high]) => (low === high ? `rank ${low}` : `rank ${low} to ${high}`);

// What this board is able to show at all.
function Detectable({ board }) {
  if (!board.test?.detectable) return null;
  return html`<p class="small mb-1" id="detectable">${sentence(board.test.detectable)}.</p>`;
}

// Clips, generation seeds, label seeds: where a figure's noise comes from, as far as runs tell.
function Variance({ board }) {
  if (!board.variance.length) return null;
  const shown = (value) => (value == null ? "not known" : (100 * value).toFixed(2));
  return html`<section class="mt-4" aria-label="Where the noise comes from">
    <h2 class="h5">Where the noise comes from</h2>
    <p class="small text-body-secondary mb-1">
      Standard deviations of ${figureName(board.primary)} in points: what other clips, another seed of
      the generation and another seed of the extractor would change. Not known: there are no two runs
      or readings that differ in that seed alone.
    </p>
    <div class="table-responsive" tabindex="0" role="region" aria-label="Parts of the noise">
      <table class="table table-sm w-auto">
        <thead>
          <tr>
            <th scope="col">runs</th>
            ${["readings", "clips", "generation seed", "label seed"].map((each) => html`<th scope="col" class="text-end">${each}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${board.variance.map(
            (each) => html`<tr>
              <th scope="row" class="fw-normal">${breakable(each.runs)}</th>
              ${[each.readings, shown(each.clip), shown(each.generation), shown(each.label)].map((cell) => html`<td class="text-end">${cell}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

function Statuses({ board, row }) {
  const missing = board.clips - row.done;
  const all = [...Object.entries(row.status), ...(missing ? [["not done", missing]] : [])];
  return html`<ul class="chips">
    ${all.map(
      ([status, count]) => html`<li>
        <${StatusBadge} status=${status}>${count} ${status.replaceAll("_", " ")}<//>
      </li>`,
    )}
  </ul>`;
}

function Legend({ board }) {
  const items = [
    `In percent; below, ${100 * board.confidence} % intervals: how far the figure would move on other clips of this kind. They do not hold what another seed would change (s), nor that runs share their clips: whether two runs differ is said by the marks, not by intervals that overlap.`,
    ...(board.test
      ? [
          "* worse: behind the best run with p < 0.05, corrected for all pairs of the leaderboard; the comparison view gives the same p.",
          ...board.test.notes,
          ...board.test.explained,
        ].map(sentence)
      : []),
    ...(board.rows.some((row) => row.spread)
      ? [
          "s: the standard deviation of so many readings (the same descriptions, labels by other seeds of the extractor), of which the figure is the mean; rerun: one more reading would lie within so many points of it (95 %, t with as many degrees of freedom as readings less one).",
        ]
      : []),
    board.missing === "skip"
      ? "Clips that failed or are not done in some compared run are left out for all of them (missing=skip)."
      : "A clip that failed counts as one without labels. Runs that are not finished are scored on the clips they have; ovmer report missing=skip compares them too, on the clips that all runs have.",
    "Not compared and listed last: runs without labels, dry runs and, but for missing=skip, runs that are not finished. Nor is the truth itself, the upper bound, which the plots leave out.",
    ...board.notes.map((note) => capital(note)),
  ];
  return html`<details class="small">
    <summary>How to read this</summary>
    <ul class="mb-0">
      ${items.map((item) => html`<li>${item}</li>`)}
    </ul>
  </details>`;
}
