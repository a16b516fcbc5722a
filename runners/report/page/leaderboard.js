// The leaderboard of one board: table, plots, and what a reader of the figures must know.

function Leaderboard({ board, state }) {
  const figure = board.figures.includes(state.figure) ? state.figure : board.primary;
  const choices = board.figures.filter((name) => !/\/(precision|recall)$/.test(name));
  if (!board.figures.length)
    return html`<${Warnings} items=${boardWarnings(board)} />
      <${BoardTable} board=${board} state=${state} columns=${[]} name="Runs" />
      <${LabelCounts} board=${board} />`;
  return html`
    <${Warnings} items=${boardWarnings(board)} />
    <${BoardTable} board=${board} state=${state} columns=${board.headlines} name="Figures" />
    <${Legend} board=${board} />
    <${LabelCounts} board=${board} />
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
        <h3 class="h6">${figureName(figure)}, in percent, with 95 % intervals</h3>
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
  const told = board.warnings.map(of);
  if (!board.figures.length) return ["there is no truth, so labels are counted", ...told].map(capital);
  if (board.comparable) return told.map(capital);
  const reasons = board.notes.filter((note) => /not comparable|no clip counts/.test(note));
  const otherwise = "not comparable with papers: there is no truth here, the figures are those that the runs kept";
  return [...(reasons.length ? reasons : [otherwise]), ...told].map(capital);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function figureName(name) {
  const [first, part] = name.split("/");
  return mappingName(first) + (part ? `, ${part}` : "");
}

function shortName(name) {
  const [, wheel, level] = MAPPING.exec(name) ?? [];
  const text = wheel ? `W${wheel} L${level}` : figureName(name);
  return wheel ? html`<abbr title=${mappingName(name)}>${text}</abbr>` : text;
}

function BoardTable({ board, state, columns, name, isBrief }) {
  const best = board.best.others ? board.best : null;
  const sort = state.sort ?? "";
  const [key, isUp] = [sort.replace(/^-/, ""), sort.startsWith("-")];
  const rows = sorted(board, key, isUp);
  const marks = !isBrief && best && Object.keys(best.others).length > 0;
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
    html`<div class="small text-body-secondary text-nowrap">${percent(low)} to ${percent(high)}</div>`}`;
}

// The mark of the paired comparison against the best run, and what it rests on.
function AgainstBest({ board, row }) {
  if (row.name === board.best.name) return html`<${Badge} tone="success">best<//>`;
  if (row.excluded) return html`<span class="text-body-secondary">${row.excluded}</span>`;
  const found = board.best.others[row.name];
  const isBehind = found.holm != null && found.holm < 0.05 && found.difference < 0;
  return html`<span class="text-nowrap">
      ${signed(found.difference)}${" "}
      ${isBehind ? "* worse" : html`<${Badge} tone="secondary">no clear difference<//>`}
    </span>
    <div class="small text-body-secondary text-nowrap">p ${pValue(found.holm)}</div>`;
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
    `In percent; small figures are ${100 * board.confidence} % intervals of the bootstrap over clips.`,
    "* worse: the paired bootstrap against the best run gives p < 0.05, corrected after Holm for the number of runs.",
    "A clip that failed counts as one without labels. Runs that are not finished are scored on the clips they have.",
    "Not compared and listed last: runs that are not finished, and dry runs. Nor is the truth itself, the upper bound, which the plots leave out.",
    ...board.notes.map((note) => capital(note)),
  ];
  return html`<details class="small">
    <summary>How to read this</summary>
    <ul class="mb-0">
      ${items.map((item) => html`<li>${item}</li>`)}
    </ul>
  </details>`;
}
