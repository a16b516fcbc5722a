// What each input brings: runs of one baseline with all inputs and with fewer.

function Inputs({ board, state }) {
  if (!board.inputs.length) return null;
  const figure = board.inputs.find((each) => each.figure)?.figure;
  return html`<section aria-label="Inputs" id="inputs">
    <h2 class="h5 mt-4">What each input brings</h2>
    <p class="small text-body-secondary mb-2">
      ${figure && `${figureName(figure)} with all inputs, less that of the run, paired by clip; small
      figures are ${100 * board.confidence} % intervals. `}
      An answer counts as changed if a single character does.
    </p>
    <div class="table-responsive" tabindex="0" role="region" aria-label="What each input brings">
      <table class="table table-sm align-middle">
        <thead>
          <tr>
            <th scope="col">baseline</th>
            <th scope="col">inputs</th>
            <th scope="col" class="text-end">loss</th>
            <th scope="col">answers changed</th>
          </tr>
        </thead>
        <tbody>
          ${board.inputs.map(
            (each) => html`<tr>
              <th scope="row" class="fw-normal">${breakable(each.whole)}</th>
              <td>${each.inputs.replaceAll("_", " ")}</td>
              <td class="text-end"><${Loss} each=${each} /></td>
              <td><${Changed} each=${each} state=${state} /></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

function Loss({ each }) {
  if (each.difference == null) return "–";
  if (!each.interval) return signed(each.difference);
  const [low, high] = each.interval;
  return html`${signed(each.difference)}
    <div class="small text-body-secondary text-nowrap">${percent(low)} to ${percent(high)}, p ${pValue(each.p)}</div>`;
}

function Changed({ each, state }) {
  const summary = `${each.changed.length} of ${counted(each.both, "clip")}`;
  if (!each.changed.length) return summary;
  return html`<details>
    <summary>${summary}</summary>
    ${each.changed.map(
      (name) => html`<a class="me-2" href=${link(state, { view: "gallery", clip: name })}>${name}</a> `,
    )}
  </details>`;
}
