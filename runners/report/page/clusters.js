// Where the figures come from: each wheel and level, and each emotion of a wheel.

function Wheels({ board, state }) {
  const columns = board.figures.filter((name) => /^M[123](-W\d-L\d)?$|\/W\d$/.test(name));
  if (!columns.length) return null;
  return html`<section class="mt-4" aria-label="By wheel">
    <h2 class="h5 mb-1">By wheel</h2>
    <p class="small text-body-secondary mb-2">F in percent; W is the wheel and L the level of it.</p>
    <${BoardTable} board=${board} state=${state} columns=${columns} name="By wheel" isBrief />
  </section>`;
}

const MEASURES = {
  F: ["F of the emotion by itself, in percent", (both, said, truth) => (2 * both) / (said + truth)],
  precision: ["right, of the clips in which it is named", (both, said) => both / said],
  recall: ["named, of the clips in which it is true", (both, said, truth) => both / truth],
};

function Clusters({ board, state }) {
  const mappings = Object.keys(board.clusters);
  if (!mappings.length) return null;
  const mapping = board.clusters[state.wheel] ? state.wheel : mappings[0];
  const measure = state.measure in MEASURES ? state.measure : "F";
  const groups = board.clusters[mapping];
  const number = board.rows[state.row] ? Number(state.row) : firstWithLabels(groups, board);
  return html`<section class="mt-4" aria-label="By emotion">
    <div class="d-flex flex-wrap gap-3 align-items-end mb-2">
      <h2 class="h5 mb-1 me-auto">By emotion</h2>
      <${Select}
        id="wheel"
        label="Wheel"
        value=${mapping}
        options=${mappings.map((each) => [each, mappingName(each)])}
        onChange=${(value) => change(state, { wheel: value })}
      />
      <${Select}
        id="measure"
        label="Shown"
        value=${measure}
        options=${Object.keys(MEASURES).map((each) => [each, each])}
        onChange=${(value) => change(state, { measure: value })}
      />
    </div>
    <${ClusterTable} ...${{ board, groups, mapping, measure }} />
    <div class="d-flex flex-wrap gap-3 align-items-end mt-4 mb-2">
      <h3 class="h6 mb-1 me-auto">Which emotions a baseline over- and under-uses, in clips</h3>
      <${Select}
        id="row"
        label="Baseline"
        value=${number}
        options=${board.rows.map((row, i) => [i, row.name])}
        onChange=${(value) => change(state, { row: value })}
      />
    </div>
    <${UsePlot} groups=${groups} number=${number} name=${board.rows[number].name} />
  </section>`;
}

// The best row that is no echo of the truth: one that errs somewhere.
function firstWithLabels(groups, board) {
  const errs = (i) =>
    Object.values(groups).some((each) => each.rows[i] && each.rows[i][0] !== each.rows[i][2]);
  return Math.max(0, board.rows.findIndex((_, i) => errs(i)));
}

function ClusterTable({ board, groups, mapping, measure }) {
  const [meaning, compute] = MEASURES[measure];
  const shown = contestants(board);
  const names = Object.keys(groups).sort((a, b) => groups[b].true - groups[a].true);
  return html`<p class="small text-body-secondary mb-2" id="measured">
      ${capital(mappingName(mapping))}: ${meaning}. “true” counts the clips in which it is true.
    </p>
    <div class="table-responsive clusters" tabindex="0" role="region" aria-label="By emotion">
    <table class="table table-sm" aria-describedby="measured">
      <thead>
        <tr>
          <th scope="col">emotion</th>
          <th scope="col" class="text-end">true</th>
          ${shown.map(({ row }) => html`<th scope="col" class="text-end">${breakable(row.name)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${names.map(
          (name) => html`<tr>
            <th scope="row" class="fw-normal" lang=${language(name)}>${name}</th>
            <td class="text-end">${groups[name].true}</td>
            ${shown.map(({ rank }) => html`<${Cell} counts=${groups[name].rows[rank - 1]} compute=${compute} />`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Cell({ counts, compute }) {
  const [said, both, truth] = counts ?? [0, 0, 0];
  const value = compute(both, said, truth);
  const isThere = counts && Number.isFinite(value);
  return html`<td
    class="text-end heat"
    style=${{ "--share": `${isThere ? Math.round(45 * value) : 0}%` }}
    title=${counts ? `named in ${said} clips, true in ${truth}, both in ${both}` : "never named, never true"}
  >
    ${isThere ? percent(value, 0) : "–"}
  </td>`;
}
