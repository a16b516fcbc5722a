// The frame: which view of which board, light or dark.

function App({ report }) {
  const views = report.reload ? LIVE_VIEWS : VIEWS;
  const state = useAddress(views);
  const number = report.boards[state.board] ? Number(state.board) : report.first;
  const board = report.boards[number];
  useEffect(() => {
    document.title = [state.clip, views[state.view], "Emotion recognition report"].filter(Boolean).join(" – ");
  }, [state.clip, state.view]);
  const view = { progress: Progress, board: Leaderboard, gallery: Gallery, compare: Compare }[state.view];
  return html`
    <a class="visually-hidden-focusable btn btn-outline-secondary m-2" href="#main" onClick=${toMain}>
      Skip to the content
    </a>
    <header class="border-bottom">
      <div class="container-xl d-flex flex-wrap align-items-center column-gap-3 py-2">
        <h1 class="h6 mb-0 me-auto">Emotion recognition: report</h1>
        <nav aria-label="Views">
          <ul class="nav nav-underline">
            ${Object.entries(views).map(
              ([key, name]) => html`<li class="nav-item">
                <a
                  class=${`nav-link ${key === state.view ? "active" : ""}`}
                  aria-current=${key === state.view ? "page" : undefined}
                  href=${link({}, { view: key, board: state.board, wheel: state.wheel })}
                  >${name}</a
                >
              </li>`,
            )}
          </ul>
        </nav>
        <${Theme} />
      </div>
    </header>
    <main class="container-xl py-3" id="main" tabindex="-1">
      <${BoardChoice} ...${{ report, number, state }} />
      <${view} key=${`${state.view} ${number}`} ...${{ board, number, state }} />
    </main>
    <footer class="container-xl small text-body-secondary pb-4">Made ${report.made}</footer>
  `;
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

// Which leaderboard; runs on other data, or scored otherwise, stand on another one.
function BoardChoice({ report, number, state }) {
  const board = report.boards[number];
  const conditions = Object.entries(board.conditions).map(([key, value]) => `${key} ${value}`);
  return html`<div class="d-flex flex-wrap gap-3 align-items-end mb-3">
    <div class="me-auto">
      <h2 class="h4 mb-0 text-break">${board.dataset}</h2>
      <p class="mb-0 text-body-secondary">
        ${counted(board.clips, "clip")}, ${counted(board.rows.length, "run")}, metric ${board.metric}
        <span class="small"> (${conditions.join(", ")})</span>
      </p>
      ${!board.root.startsWith("{") && html`<p class="mb-0 small text-body-secondary text-break">${board.root}</p>`}
    </div>
    ${report.boards.length > 1 &&
    html`<${Select}
      id="board"
      label="Leaderboard (runs that differ in data, clips or metric are kept apart)"
      value=${number}
      options=${report.boards.map((each, i) => [i, boardName(each)])}
      onChange=${(value) => change({ view: state.view }, { board: value })}
    />`}
  </div>`;
}

function boardName(board) {
  const edition = board.conditions.vocabulary ? `, ${board.conditions.vocabulary}` : "";
  return `${board.dataset}: ${board.metric}${edition}, ${counted(board.clips, "clip")}, ${counted(board.rows.length, "run")}`;
}

// Light or dark: as the system has it, until the button says otherwise.
const dark = matchMedia("(prefers-color-scheme: dark)");

function Theme() {
  const [chosen, setChosen] = useState(null);
  const [system, setSystem] = useState(dark.matches);
  useEffect(() => dark.addEventListener("change", () => setSystem(dark.matches)), []);
  const isDark = chosen ?? system;
  useLayoutEffect(() => {
    document.documentElement.dataset.bsTheme = isDark ? "dark" : "light";
  }, [isDark]);
  return html`<button
    class="btn btn-sm btn-outline-secondary"
    id="theme"
    onClick=${() => setChosen(!isDark)}
  >
    ${isDark ? "Light" : "Dark"}<span class="visually-hidden"> theme</span>
  </button>`;
}

unpack("leaderboards").then((report) => {
  const root = document.getElementById("app");
  root.replaceChildren();
  render(html`<${App} report=${report} />`, root);
  if (report.reload) setInterval(reloadWhenIdle, 1000 * report.reload);
  // The index of the board that is shown, then the text to be searched, while nobody waits.
  parsed.then(idle).then(() => gallery(report.first)).then((index) => index.search.start());
});
