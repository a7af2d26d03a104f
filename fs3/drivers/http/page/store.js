// The state of the cluster as the page knows it: the first message has all of it, later ones what has changed.

const EVENTS_MAX = 200;
const RINGS = { fine: 300, coarse: 720 };

/** Apply a message of changes; returns the names of the sections that are others now. */
export function applyChanges(state, changes) {
  const touched = new Set();
  for (const [section, value] of Object.entries(changes.set ?? {})) {
    state[section] = section === "chains" && value.states === undefined ? { ...state.chains, ...value } : value;
    touched.add(section);
  }
  if (changes.nodes || changes.gone || changes.rates) {
    const nodes = new Map(state.nodes.map((node) => [node.name, node]));
    for (const node of changes.nodes ?? []) nodes.set(node.name, node);
    for (const [name, rates] of Object.entries(changes.rates ?? {})) nodes.set(name, { ...nodes.get(name), rates });
    for (const name of changes.gone ?? []) nodes.delete(name);
    state.nodes = [...nodes.values()];
    touched.add("nodes");
  }
  if (changes.chain_states) {
    let states = state.chains.states;
    for (const [place, letters] of changes.chain_states) {
      states = states.slice(0, place) + letters + states.slice(place + letters.length);
    }
    state.chains = { ...state.chains, states };
    touched.add("chains");
  }
  if (changes.events) {
    state.events = [...state.events, ...changes.events].slice(-EVENTS_MAX);
    touched.add("events");
  }
  if (changes.samples) {
    for (const [ring, rows] of Object.entries(changes.samples)) {
      state.history[ring] = [...state.history[ring], ...rows].slice(-RINGS[ring]);
    }
    touched.add("history");
  }
  return touched;
}
