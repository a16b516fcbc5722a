// The gallery: filters, the list of clips that pass, and one clip with all that was said of it.

function Gallery({ board, number, state }) {
  const index = useLoaded(() => gallery(number), number);
  if (!index) return html`<p role="status">Unpacking the clips …</p>`;
  return html`<${LoadedGallery} key=${number} ...${{ board, index, state }} />`;
}

function LoadedGallery({ board, index, state }) {
  const hits = useHits(index, state);
  const keys = ["row", "status", "label", "disagree", "sort"].map((key) => state[key]);
  const clips = useMemo(() => selectClips(index, state, hits?.clips), [index, hits, ...keys]);
  const shown = index.places.get(state.clip) ?? null;
  return html`
    <${Filters} board=${board} index=${index} state=${state} />
    <p class="small text-body-secondary my-2" role="status" aria-live="polite" id="found">
      ${clips.length.toLocaleString("en")} of ${counted(index.names.length, "clip")}${listed(index, state)}
      ${hits && hits.share < 1 && `, ${Math.floor(100 * hits.share)} % searched`}
    </p>
    <div class=${`gallery ${shown === null ? "" : "has-clip"}`}>
      <${ClipList} ...${{ index, state, clips, shown }} />
      ${shown === null
        ? html`<p class="text-body-secondary gallery-clip d-none d-md-block">
            Choose a clip to see and hear it, and to read what every baseline said.
          </p>`
        : html`<${Clip} key=${shown} ...${{ board, index, state, clips, clip: shown }} />`}
    </div>
  `;
}

// What the figures in the list are; nothing where there are none, as without true labels.
function listed(index, state) {
  const row = chosenRow(index, state);
  if (state.sort === "disagreement") {
    return index.disagreement.some(isKnown) ? ", with the disagreement between the baselines" : "";
  }
  if (!scores(index, row).some(isKnown)) return "";
  return row === null ? ", with their mean score" : ", with the baseline's score";
}

// What the search finds, anew whenever more has been made ready to be searched.
function useHits(index, state) {
  const [, again] = useState(0);
  // Before the search goes on, lest it be done before anybody listens.
  useLayoutEffect(() => {
    const listener = throttled(() => again((count) => count + 1));
    index.search.listeners.add(listener);
    index.search.start();
    return () => index.search.listeners.delete(listener);
  }, [index]);
  if (!state.q?.trim()) return null;
  const clips = index.search.find(state.q, chosenRow(index, state));
  return { clips, share: index.search.share };
}

// The last call always; seldom enough to leave the time to what is being waited for.
function throttled(call) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    setTimeout(() => {
      waits = false;
      call();
    }, 300);
  };
}

const PAGE = 50;

function ClipList({ index, state, clips, shown }) {
  const [count, setCount] = useState(PAGE);
  useEffect(() => setCount(PAGE), [clips]);
  const list = useRef(null);
  useEffect(() => showCurrent(list.current), [shown]);
  const least = clips.indexOf(shown) + 1;
  const row = chosenRow(index, state);
  return html`<nav class="gallery-list" aria-label="Clips" ref=${list}>
    <ol class="list-unstyled mb-0" onKeyDown=${stepThrough}>
      ${clips.slice(0, Math.max(count, least)).map(
        (clip) => html`<li key=${clip}>
          <a
            class="clip-link"
            href=${link(state, { clip: index.names[clip] })}
            aria-current=${clip === shown ? "true" : undefined}
          >
            <span class="d-flex gap-2">
              <span class="fw-semibold text-break me-auto">${breakable(index.names[clip])}</span>
              <${ClipScore} ...${{ index, state, clip, row }} />
            </span>
            <span class="subtitle" lang=${language(index.subtitles[clip])}>
              ${index.subtitles[clip].slice(0, 120)}
            </span>
          </a>
        </li>`,
      )}
    </ol>
    ${count < clips.length &&
    html`<button class="btn btn-sm btn-outline-secondary m-2" onClick=${() => setCount(count + PAGE)}>
      Show ${Math.min(PAGE, clips.length - count)} more
    </button>`}
  </nav>`;
}

// Scroll the list, and not the page, to the clip that is shown.
function showCurrent(list) {
  const current = list.querySelector("[aria-current]");
  if (!current) return;
  const top = current.offsetTop - list.offsetTop;
  const bottom = top + current.offsetHeight;
  const isInView = top >= list.scrollTop && bottom <= list.scrollTop + list.clientHeight;
  if (!isInView) list.scrollTop = top - list.clientHeight / 3;
}

// Arrow keys step from clip to clip in the list.
function stepThrough(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("li")?.[step]?.querySelector("a");
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function ClipScore({ index, state, clip, row }) {
  if (state.sort === "disagreement") {
    const apart = index.disagreement[clip];
    if (!isKnown(apart)) return null;
    return html`<span class="text-body-secondary small text-nowrap">${apart} % apart</span>`;
  }
  const score = scores(index, row)[clip];
  if (!isKnown(score)) return null;
  return html`<span class="text-body-secondary small text-nowrap">
    <span class="visually-hidden">score </span>${Math.round(score)} %
  </span>`;
}

const narrow = matchMedia("(max-width: 767px)"); // where the clip takes the place of the list

function Clip({ board, index, state, clips, clip }) {
  const said = useLoaded(() => answers(index, clip), clip);
  const heading = useRef(null);
  useEffect(() => {
    heading.current.focus({ preventScroll: true });
    if (narrow.matches) heading.current.closest("article").scrollIntoView();
  }, [clip]);
  const mapping = chosenMapping(index, state);
  return html`<article class="gallery-clip" aria-labelledby="clip-name">
    <${Steps} ...${{ index, state, clips, clip }} />
    <h2 class="h5 text-break" id="clip-name" tabindex="-1" ref=${heading}>
      ${breakable(index.names[clip])}
    </h2>
    <${Media} index=${index} clip=${clip} />
    <h3 class="h6 mt-3 mb-1">Subtitle</h3>
    ${index.subtitles[clip]
      ? html`<${Text} text=${index.subtitles[clip]} query=${state.q} most=${600} />`
      : html`<p class="text-body-secondary mb-2">none</p>`}
    <h3 class="h6 mb-1">Ground truth, ${mappingName(index.mappings[mapping])}</h3>
    <${Labels} index=${index} labels=${index.truth[clip]} mapping=${mapping} name="Ground truth" />
    ${board.rows.length > 1 && isKnown(index.disagreement[clip]) &&
    html`<p class="small text-body-secondary mb-2">
      Disagreement between the baselines: ${index.disagreement[clip]} %
    </p>`}
    <h3 class="h6 mt-3 mb-1">What the baselines said</h3>
    <${MarksLegend} mapping=${index.mappings[mapping]} />
    ${board.rows.map(
      (row, number) =>
        html`<${Answer} ...${{ index, row, number, clip, mapping, state, said: said?.[number] }} />`,
    )}
  </article>`;
}

function Steps({ index, state, clips, clip }) {
  const at = clips.indexOf(clip);
  const to = (place, text) => {
    const there = at >= 0 || place === 0 ? clips[place] : undefined;
    if (there === undefined) return html`<span class="btn btn-sm btn-outline-secondary disabled" aria-disabled="true">${text}</span>`;
    return html`<a class="btn btn-sm btn-outline-secondary" href=${link(state, { clip: index.names[there] })}>${text}</a>`;
  };
  return html`<nav class="d-flex gap-2 mb-2" aria-label="Next and previous clip">
    <a class="btn btn-sm btn-outline-secondary back" href=${link(state, { clip: "" })}>All clips</a>
    ${to(at - 1, "Previous")} ${to(at + 1, "Next")}
  </nav>`;
}

function Media({ index, clip }) {
  const [video, audio] = index.media[clip];
  return html`<div class="media">
    ${video
      ? html`<${Player} kind="video" address=${video} name=${index.names[clip]} />`
      : html`<p class="text-body-secondary small mb-1">no video</p>`}
    ${audio && html`<${Player} kind="audio" address=${audio} name=${index.names[clip]} />`}
    ${!audio && !video && html`<p class="text-body-secondary small mb-1">no sound</p>`}
  </div>`;
}

function Player({ kind, address, name }) {
  const [isBroken, setBroken] = useState(false);
  const source = useLoaded(() => Promise.resolve(playable(address)), address);
  if (isBroken) {
    return html`<p class="alert alert-secondary small py-2">
      The ${kind} cannot be played: it has been moved, or this browser does not know its format.
      ${!address.startsWith("media:") && html`<br /><span class="text-break">${decodeURI(address)}</span>`}
    </p>`;
  }
  return html`<${kind}
    controls
    preload="metadata"
    aria-label=${`${kind} of ${name}`}
    src=${source ?? undefined}
    onError=${() => source && setBroken(true)}
  />`;
}

function MarksLegend({ mapping }) {
  const shown = ["matched", "surplus", "missed", "outside"];
  const isWheel = MAPPING.test(mapping);
  return html`<p class="d-flex flex-wrap column-gap-3 small text-body-secondary mb-2">
    ${shown.map((mark) => {
      const [tone, sign, meaning] = MARKS[mark];
      return html`<span>
        <span class=${`text-${tone}-emphasis fw-bold`}>${sign}</span>
        ${" "}${mark === "outside" && isWheel ? "not on this wheel" : meaning}
      </span>`;
    })}
    <span><span class="fw-bold">%</span> score of the clip${isWheel && ": F, averaged over all wheels and levels"}</span>
  </p>`;
}

function Answer({ index, row, number, clip, mapping, state, said }) {
  const { status, score, labels } = index.rows[number];
  const name = status[clip] < 0 ? "not done" : index.statuses[status[clip]];
  const isAnswer = name === "ok" || name === "empty";
  const isChosen = chosenRow(index, state) === number;
  return html`<section class=${`card mb-2 ${isChosen ? "border-primary" : ""}`} aria-label=${row.name}>
    <div class="card-body py-2 px-3">
      <h4 class="h6 d-flex flex-wrap gap-2 mb-1">
        <span class="text-break">${breakable(row.name)}</span>
        ${name !== "ok" && html`<${StatusBadge} status=${name} />`}
        ${score[clip] >= 0 && html`<span class="ms-auto fw-normal text-body-secondary">
          <span class="visually-hidden">score </span>${score[clip]} %
        </span>`}
      </h4>
      ${isAnswer && html`<${Labels}
        index=${index}
        labels=${labels[clip]}
        truth=${index.truth[clip]}
        mapping=${mapping}
        name=${`Labels of ${row.name}`}
      />`}
      ${!said ? html`<p class="text-body-secondary">…</p>` : html`<${Said} said=${said} state=${state} />`}
    </div>
  </section>`;
}

function Said({ said, state }) {
  const { text, error, thinking, notes = [], trail = {}, raw, seconds, tokens } = said;
  const steps = [...Object.entries(trail), ...(raw ? [["answer of the extractor", raw]] : [])];
  const costs = [seconds && `${seconds} s`, tokens && counted(tokens, "token")].filter(Boolean);
  return html`
    <${Text} text=${text} query=${state.q} />
    ${error && html`<p class="text-danger-emphasis mb-1 text-break">${error}</p>`}
    ${notes.map((note) => html`<p class="small text-warning-emphasis mb-1">${note}</p>`)}
    ${thinking && html`<${Folded} title="what it thought before" text=${thinking} query=${state.q} />`}
    ${steps.map(([step, words]) => html`<${Folded} title=${step} text=${words} query=${state.q} />`)}
    ${costs.length > 0 && html`<p class="small text-body-secondary mb-0">${costs.join(", ")}</p>`}
  `;
}

function Folded({ title, text, query }) {
  return html`<details class="small">
    <summary>${title}</summary>
    <${Text} text=${text} query=${query} />
  </details>`;
}
