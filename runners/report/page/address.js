// What is looked at stands behind the # of the address, so that it can be sent to somebody.

const VIEWS = { board: "Leaderboard", gallery: "Gallery", compare: "Compare" };
const LIVE_VIEWS = { progress: "Progress", ...VIEWS }; // of a page that follows a sweep

// An unknown view becomes the first of `views`.
function fromAddress(views) {
  const state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!(state.view in views)) state.view = Object.keys(views)[0];
  return state;
}

// The address of the present state with some keys changed; "" or null takes a key away.
function link(state, changes) {
  const entries = Object.entries({ ...state, ...changes });
  return "#" + new URLSearchParams(entries.filter(([, value]) => value !== "" && value != null));
}

const moved = new Set();

function useAddress(views) {
  const [state, setState] = useState(() => fromAddress(views));
  useEffect(() => {
    const follow = () => setState(fromAddress(views));
    moved.add(follow);
    window.addEventListener("hashchange", follow);
    return () => {
      moved.delete(follow);
      window.removeEventListener("hashchange", follow);
    };
  }, []);
  return state;
}

// Change some keys in place: going back does not step through every letter of a search.
function change(state, changes) {
  history.replaceState(null, "", link(state, changes));
  moved.forEach((follow) => follow());
}
