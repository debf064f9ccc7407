// The head view: tokens on both sides, a line for each weight. All state is in `state`; `update` shows it.
"use strict";
(() => {
  const ROW = 26; // as --row in the style: the height of a token, in CSS pixels
  const STRAND = 2.2; // between lines of different heads that join the same tokens
  // Opacity is the weight to this power: where lines are few, small weights are to be made out as well; where they
  // are many, they must not cover the great ones.
  const FEW_LINES = 0.75;
  const MANY_LINES = 1.25;
  const FAINTEST = 1 / 256; // less than this is not drawn: nobody would see it
  const LARGEST_CANVAS = 16000; // device pixels that browsers allow along one side, and a little less
  const LISTED = 6; // tokens named in the line above the picture

  const KINDS = {
    encoder: "self-attention of the encoder",
    decoder: "self-attention of the decoder",
    cross: "cross-attention",
  };

  const data = JSON.parse(document.querySelector(".data").textContent);
  const find = (selector) => document.querySelector(selector);
  const kindSelect = find(".kind select");
  const layerSelect = find(".layer select");
  const chips = find(".chips");
  const canvas = find("canvas");
  const lists = { query: find(".queries"), key: find(".keys") };
  const readout = find(".readout");

  // `on`: one boolean for each head. `pinned` and `pointed`: {side: "query" or "key", index}, or null.
  // `weights` are those of the layer that is shown.
  const state = { map: data.maps[0], layer: data.layer, weights: null, on: [], pinned: null, pointed: null };

  // --- weights ---------------------------------------------------------------------------

  /** The weights of a layer, as 0 to 65535, heads before queries before keys. */
  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const numbers = new Uint16Array(bytes.length / 2);
    for (let i = 0; i < numbers.length; i++) numbers[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    return numbers;
  }

  function weight(head, query, key) {
    const { map, weights } = state;
    return weights[(head * map.queries.length + query) * map.keys.length + key] / 65535;
  }

  const headsOn = () => [...state.on.keys()].filter((head) => state.on[head]);

  /** The mean weight, over the heads that are on, between the token and each of the other side. */
  function means({ side, index }) {
    const heads = headsOn();
    const others = side === "query" ? state.map.keys : state.map.queries;
    return others.map((_, other) => {
      const [query, key] = side === "query" ? [index, other] : [other, index];
      return heads.reduce((sum, head) => sum + weight(head, query, key), 0) / Math.max(heads.length, 1);
    });
  }

  // --- the picture -----------------------------------------------------------------------

  /** Heads go once around the circle of hues, equally light. */
  function colour(head) {
    const lightness = getComputedStyle(document.documentElement).getPropertyValue("--lightness");
    return `oklch(${lightness} 0.17 ${Math.round((360 * head) / state.map.heads + 25) % 360})`;
  }

  let drawing = false;

  /** Draw before the next frame, once, however much changes until then. */
  function drawSoon() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      draw();
    });
  }

  function draw() {
    const { queries, keys } = state.map;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const ratio = Math.min(window.devicePixelRatio || 1, LARGEST_CANVAS / height);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const heads = headsOn();
    const strand = Math.min(STRAND, (ROW - 6) / Math.max(heads.length, 1));
    context.lineWidth = heads.length > 1 ? Math.max(strand, 0.8) : 3;
    const selected = state.pointed || state.pinned;
    const power = selected || heads.length === 1 ? FEW_LINES : MANY_LINES;
    const range = (side, tokens) =>
      selected && selected.side === side ? [selected.index] : tokens.map((_, index) => index);
    heads.forEach((head, place) => {
      context.strokeStyle = colour(head);
      const middle = ROW / 2 + strand * (place - (heads.length - 1) / 2);
      for (const query of range("query", queries)) {
        for (const key of range("key", keys)) {
          const strength = weight(head, query, key);
          if (strength < FAINTEST) continue;
          context.globalAlpha = strength ** power;
          const left = ROW * query + middle;
          const right = ROW * key + middle;
          context.beginPath();
          context.moveTo(0, left);
          context.bezierCurveTo(width / 2, left, width / 2, right, width, right);
          context.stroke();
        }
      }
    });
  }

  // --- tokens ----------------------------------------------------------------------------

  function fillTokens(side, labels) {
    lists[side].replaceChildren(
      ...labels.map((label, index) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = label;
        // One stop of the Tab key for each side; arrows go on from there.
        button.tabIndex = index === 0 ? 0 : -1;
        button.setAttribute("aria-pressed", "false");
        const text = document.createElement("bdi");
        text.textContent = label;
        const share = document.createElement("span");
        share.className = "weight";
        button.append(text, share);
        const token = { side, index };
        button.addEventListener("pointerenter", () => point(token));
        button.addEventListener("pointerleave", () => point(null));
        button.addEventListener("focus", () => point(token));
        button.addEventListener("blur", () => point(null));
        button.addEventListener("click", () => pin(token));
        button.addEventListener("keydown", (event) => moveFocus(event, token));
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
  }

  const buttonsOf = (side) => [...lists[side].querySelectorAll("button")];
  const same = (a, b) => a !== null && b !== null && a.side === b.side && a.index === b.index;

  function point(token) {
    state.pointed = token;
    update();
  }

  function pin(token) {
    state.pinned = same(state.pinned, token) ? null : token;
    update();
  }

  function moveFocus(event, { side, index }) {
    const last = buttonsOf(side).length - 1;
    const steps = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: last };
    let target;
    if (event.key in steps) {
      target = buttonsOf(side)[Math.min(Math.max(steps[event.key], 0), last)];
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const there = buttonsOf(event.key === "ArrowRight" ? "key" : "query");
      target = there[Math.min(index, there.length - 1)];
    } else {
      return;
    }
    event.preventDefault();
    for (const button of target.closest("ol").querySelectorAll("button")) button.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  }

  function showTokens() {
    const selected = state.pointed || state.pinned;
    const heads = headsOn();
    const shares = selected ? means(selected) : [];
    for (const side of ["query", "key"]) {
      buttonsOf(side).forEach((button, index) => {
        const share = selected && selected.side !== side ? shares[index] : null;
        button.querySelector(".weight").textContent = share === null ? "" : share.toFixed(2);
        button.style.setProperty("--share", share === null ? 0 : 0.75 * share);
        button.style.setProperty("--tint", heads.length === 1 ? colour(heads[0]) : "var(--accent)");
        button.classList.toggle("current", same(selected, { side, index }));
        button.setAttribute("aria-pressed", String(same(state.pinned, { side, index })));
      });
    }
    readout.textContent = selected ? describe(selected, shares) : describeAll(heads);
  }

  function describeAll(heads) {
    const kind = KINDS[state.map.kind];
    const which = heads.length === 1 ? `head ${heads[0]}` : `${heads.length} of ${state.map.heads} heads`;
    return `Layer ${state.map.layers[state.layer]}, ${which}, ${kind}. Point at a token to see its weights.`;
  }

  function describe({ side, index }, shares) {
    const { map } = state;
    const [own, others] = side === "query" ? [map.queries, map.keys] : [map.keys, map.queries];
    const heads = headsOn();
    if (heads.length === 0) return "All heads are off.";
    const whose = heads.length === 1 ? `head ${heads[0]}` : `the mean of ${heads.length} heads`;
    const first = [...shares.keys()].sort((a, b) => shares[b] - shares[a] || a - b).slice(0, LISTED);
    const named = first
      .filter((other) => shares[other] >= 0.005)
      .map((other) => `\u2068${others[other]}\u2069 ${shares[other].toFixed(2)}`);
    const verb = side === "query" ? "looks at" : "is looked at by";
    const whom = named.length ? named.join(", ") : "nothing";
    return `\u2068${own[index]}\u2069 ${verb} ${whom} (layer ${map.layers[state.layer]}, ${whose})`;
  }

  // --- controls --------------------------------------------------------------------------

  function fillHeads(count) {
    if (state.on.length !== count) state.on = Array(count).fill(true);
    chips.replaceChildren(
      ...state.on.map((_, head) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = head;
        button.setAttribute("aria-label", `Head ${head}`);
        button.addEventListener("click", () => {
          state.on[head] = !state.on[head];
          update();
        });
        // Its two clicks have switched the head twice.
        button.addEventListener("dblclick", () => isolate(head));
        button.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" || !event.shiftKey) return;
          event.preventDefault();
          isolate(head);
        });
        return button;
      }),
    );
  }

  /** Leave this head alone on; all, if it is already. */
  function isolate(head) {
    const alone = headsOn().length === 1 && state.on[head];
    state.on = state.on.map((_, other) => alone || other === head);
    update();
  }

  function fillSelect(select, names) {
    select.replaceChildren(...names.map((name, place) => new Option(name, place)));
  }

  function showMap(map) {
    const number = state.map.layers[state.layer];
    state.map = map;
    state.pinned = state.pointed = null;
    fillSelect(layerSelect, map.layers);
    fillHeads(map.heads);
    fillTokens("query", map.queries);
    fillTokens("key", map.keys);
    canvas.style.height = `${ROW * Math.max(map.queries.length, map.keys.length)}px`;
    showLayer(Math.max(map.layers.indexOf(number), 0));
  }

  function showLayer(layer) {
    state.layer = layer;
    state.weights = decode(state.map.weights[layer]);
    update();
  }

  function update() {
    layerSelect.value = state.layer;
    const last = state.map.layers.length - 1;
    find(".step[value='-1']").disabled = state.layer === 0;
    find(".step[value='1']").disabled = state.layer === last;
    [...chips.children].forEach((button, head) => {
      button.style.setProperty("--head", colour(head));
      button.setAttribute("aria-pressed", String(state.on[head]));
    });
    canvas.setAttribute(
      "aria-label",
      `Attention weights of layer ${state.map.layers[state.layer]}, ${headsOn().length} of ` +
        `${state.map.heads} heads, as lines from ${state.map.queries.length} queries to ` +
        `${state.map.keys.length} keys`,
    );
    showTokens();
    drawSoon();
  }

  /** Draw anew when the page is zoomed, or moved to a screen with other pixels. */
  function watchResolution() {
    const query = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    const listener = () => {
      drawSoon();
      watchResolution();
    };
    query.addEventListener("change", listener, { once: true });
  }

  fillSelect(kindSelect, data.maps.map((map) => KINDS[map.kind]));
  find(".kind").hidden = data.maps.length === 1;
  kindSelect.addEventListener("change", () => showMap(data.maps[Number(kindSelect.value)]));
  layerSelect.addEventListener("change", () => showLayer(Number(layerSelect.value)));
  for (const step of document.querySelectorAll(".step")) {
    step.addEventListener("click", () => showLayer(state.layer + Number(step.value)));
  }
  for (const [selector, on] of [[".all", true], [".none", false]]) {
    find(selector).addEventListener("click", () => {
      state.on.fill(on);
      update();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.pinned = state.pointed = null;
    update();
  });
  new ResizeObserver(drawSoon).observe(canvas);
  watchResolution();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  showMap(state.map);
})();
