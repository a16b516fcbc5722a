// A sweep while it runs: how far each run is, what failed, and the latest answers.

function Progress({ board, number }) {
  const index = useLoaded(() => gallery(number), number);
  const running = board.rows.filter((row) => row.done < board.clips);
  const rows = [...running, ...board.rows.filter((row) => !running.includes(row))];
  return html`${rows.map((row) => html`<${RunProgress} ...${{ board, row, index }} />`)}`;
}

function RunProgress({ board, row, index }) {
  const share = Math.round((100 * row.done) / Math.max(board.clips, 1));
  return html`<section class="mb-4" aria-label=${row.name}>
    <h2 class="h5 d-flex flex-wrap gap-2 align-items-center mb-1">
      <span class="text-break">${breakable(row.name)}</span>${" "}
      <span class="h6 mb-0 fw-normal text-body-secondary">
        ${row.done.toLocaleString("en")} of ${counted(board.clips, "clip")}
      </span>
    </h2>
    <progress class="w-100" max="100" value=${share} aria-label=${`progress of ${row.name}`} />
    <${Statuses} board=${board} row=${row} />
    ${index && row.done < board.clips && row.latest.map((clip) => html`<${Latest} key=${clip} ...${{ board, row, index, clip }} />`)}
  </section>`;
}

function Latest({ board, row, index, clip }) {
  const place = index.places.get(clip);
  const said = useLoaded(() => answers(index, place), place);
  const answer = said?.[board.rows.indexOf(row)];
  const address = link({}, { view: "gallery", board: index.number, clip });
  return html`<article class="row g-2 mb-2 latest" aria-label=${clip}>
    <div class="col-sm-4 col-lg-3"><${Media} index=${index} clip=${place} /></div>
    <div class="col">
      <h3 class="h6 mb-1"><a class="text-break" href=${address}>${breakable(clip)}</a></h3>
      ${answer && html`<${Said} said=${answer} state=${{}} />`}
      ${answer && !answer.text && !answer.error && html`<p class="text-body-secondary">no words</p>`}
    </div>
  </article>`;
}

// The file is written anew while the sweep runs. A reader who plays or marks something is let be.
function reloadWhenIdle() {
  const isPlaying = [...document.querySelectorAll("video, audio")].some((each) => !each.paused);
  if (!document.hidden && !isPlaying && !String(getSelection())) location.reload();
}
