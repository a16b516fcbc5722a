// How often each run gives each label, where no truth is there to score against.

function LabelCounts({ board }) {
  const { labels, others, different } = board.labels;
  if (!labels) return null;
  const names = Object.keys(labels);
  const most = Math.max(1, ...names.flatMap((name) => labels[name]));
  return html`<section aria-label="Labels" id="labels">
    <h2 class="h5 mt-4">Labels</h2>
    <p class="small text-body-secondary mb-2">
      In how many clips a run gives a label. There is no truth, so this says what runs name, and not
      whether they are right.
      ${others > 0 && ` ${counted(others, "rarer label")} left out.`}
    </p>
    <div class="table-responsive clusters" tabindex="0" role="region" aria-label="Label counts">
      <table class="table table-sm">
        <thead>
          <tr>
            <th scope="col">label</th>
            ${board.rows.map((row) => html`<th scope="col" class="text-end">${breakable(row.name)}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${names.map(
            (name) => html`<tr>
              <th scope="row" class="fw-normal" lang=${language(name)}>${name}</th>
              ${labels[name].map(
                (count) => html`<td
                  class="text-end heat"
                  style=${{ "--share": `${Math.round((45 * count) / most)}%` }}
                >
                  ${count || "–"}
                </td>`,
              )}
            </tr>`,
          )}
          <tr>
            <th scope="row" class="fw-normal fst-italic">different labels</th>
            ${different.map((count) => html`<td class="text-end">${count}</td>`)}
          </tr>
        </tbody>
      </table>
    </div>
  </section>`;
}
