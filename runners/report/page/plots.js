// Plots as SVG, as wide as their place. Each has the same figures in a table beside it.

function Plot({ label, height, draw }) {
  const [ref, width] = useWidth();
  return html`<div ref=${ref} class="plot">
    ${width > 0 &&
    html`<svg width=${width} height=${height} role="img" aria-label=${label}>
      ${draw(width)}
    </svg>`}
  </div>`;
}

const scale = (from, to, low, high) => (value) =>
  low + ((value - from) / (to - from || 1)) * (high - low);

function ticks(from, to) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1].find((each) => (to - from) / each <= 6) ?? 1;
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => (first + i) * step);
}

function cut(text, width) {
  const most = Math.floor(width / 7);
  return text.length > most ? text.slice(0, Math.max(most - 1, 1)) + "…" : text;
}

// The rows with their ranks, without the truth where there is anything else.
function contestants(board) {
  const all = board.rows.map((row, i) => ({ row, rank: i + 1 }));
  const others = all.filter(({ row }) => !row.bound);
  return others.length ? others : all;
}

// Point and interval of one figure for each row, the best on top.
function ForestPlot({ board, figure }) {
  const at = board.figures.indexOf(figure);
  const rows = contestants(board)
    .map((each) => ({ ...each, value: each.row.figures[at] }))
    .filter(({ value }) => value)
    .sort((a, b) => b.value[0] - a.value[0]);
  if (!rows.length) return null;
  const most = Math.max(...rows.map(({ value }) => value[2] ?? value[0]));
  const step = 26;
  const height = rows.length * step + 30;
  const draw = (width) => {
    const names = Math.min(200, width * 0.42);
    const x = scale(0, Math.max(most, 0.05), names + 8, width - 44);
    return html`
      ${ticks(0, Math.max(most, 0.05)).map(
        (tick) => html`<line class="grid" x1=${x(tick)} x2=${x(tick)} y1="0" y2=${height - 24} />
          <text class="quiet" x=${x(tick)} y=${height - 8} text-anchor="middle">
            ${percent(tick, 0)}
          </text>`,
      )}
      ${rows.map(({ row, rank, value: [value, low, high] }, i) => {
        const y = i * step + step / 2;
        return html`<g class=${row.excluded ? "unsure" : ""}>
          <title>${row.name}: ${percent(value)} (${percent(low)} to ${percent(high)})</title>
          <text x=${names} y=${y + 4} text-anchor="end">${cut(`${rank} ${row.name}`, names)}</text>
          ${low != null &&
          html`<line class="interval" x1=${x(low)} x2=${x(high)} y1=${y} y2=${y} />`}
          <circle class="point" cx=${x(value)} cy=${y} r="4.5" />
          <text x=${x(high ?? value) + 8} y=${y + 4}>${percent(value)}</text>
        </g>`;
      })}
    `;
  };
  const label = `${figure} with intervals: ${rows
    .map(({ row, value }) => `${row.name} ${percent(value[0])}`)
    .join(", ")}`;
  return html`<${Plot} label=${label} height=${height} draw=${draw} />`;
}

// Precision against recall, with lines of equal F; points bear the rank of their row.
function PrecisionRecallPlot({ board, figure }) {
  const [precision, recall] = ["precision", "recall"].map((part) =>
    board.figures.indexOf(`${figure}/${part}`),
  );
  const rows = contestants(board)
    .map((each) => ({ ...each, p: each.row.figures[precision], r: each.row.figures[recall] }))
    .filter(({ p, r }) => p && r);
  if (!rows.length) return null;
  const height = 320;
  const top = Math.min(1, Math.max(0.1, ...rows.flatMap(({ p, r }) => [p[0], r[0]])) * 1.1);
  const draw = (width) => {
    const x = scale(0, top, 62, width - 14);
    const y = scale(0, top, height - 50, 12);
    return html`
      ${ticks(0, top).map(
        (tick) => html`<line class="grid" x1=${x(tick)} x2=${x(tick)} y1=${y(0)} y2=${y(top)} />
          <line class="grid" x1=${x(0)} x2=${x(top)} y1=${y(tick)} y2=${y(tick)} />
          <text class="quiet" x=${x(tick)} y=${height - 24} text-anchor="middle">
            ${percent(tick, 0)}
          </text>
          <text class="quiet" x="46" y=${y(tick) + 4} text-anchor="end">${percent(tick, 0)}</text>`,
      )}
      ${ticks(0, top)
        .slice(1)
        .filter((f) => f < top)
        .map(
          (f) => html`<path class="iso" d=${equalF(f, top, x, y)} />
            <text class="quiet" x=${x(top)} y=${y((f * top) / (2 * top - f)) - 4} text-anchor="end">
              F ${percent(f, 0)}
            </text>`,
        )}
      <text x=${(x(0) + x(top)) / 2} y=${height - 3} text-anchor="middle">recall, %</text>
      <text x="12" y=${(y(0) + y(top)) / 2} text-anchor="middle" class="upright">precision, %</text>
      ${together(rows, ({ p, r }) => [x(r[0]), y(p[0])]).map(
        ({ at: [left, top], members: [first, ...others] }) => html`<g>
          <title>${[first, ...others].map(pointName).join("\n")}</title>
          <circle class="point" cx=${left} cy=${top} r="10" />
          <text class="on-point" x=${left} y=${top + 4} text-anchor="middle">${first.rank}</text>
          ${others.length > 0 &&
          html`<text class="quiet" x=${left + 14} y=${top - 8}>
            and ${others.length > 3 ? `${others.length} more` : others.map(({ rank }) => rank).join(", ")}
          </text>`}
        </g>`,
      )}
    `;
  };
  const label = `Precision against recall of ${figure}: ${rows
    .map(({ row, p, r }) => `${row.name} ${percent(p[0])} and ${percent(r[0])}`)
    .join(", ")}`;
  return html`<${Plot} label=${label} height=${height} draw=${draw} />`;
}

const pointName = ({ row, rank, p, r }) =>
  `${rank} ${row.name}: precision ${percent(p[0])}, recall ${percent(r[0])}`;

// Points that would hide each other, as one with several members.
function together(rows, place) {
  const points = [];
  for (const row of rows) {
    const at = place(row);
    const near = points.find((point) => Math.hypot(point.at[0] - at[0], point.at[1] - at[1]) < 12);
    if (near) near.members.push(row);
    else points.push({ at, members: [row] });
  }
  return points;
}

function equalF(f, top, x, y) {
  const points = [];
  for (let r = f / 2 + 0.005; r <= top + 1e-9; r += top / 100) {
    const p = (f * r) / (2 * r - f);
    if (p <= top) points.push(`${x(r).toFixed(1)},${y(p).toFixed(1)}`);
  }
  return points.length ? `M${points.join("L")}` : "";
}

// How much more (right) or less (left) often a row names each emotion than the truth does.
function UsePlot({ groups, number, name }) {
  const entries = Object.entries(groups)
    .filter(([, each]) => each.rows[number])
    .map(([group, each]) => {
      const [predicted, , truth] = each.rows[number];
      return { group, truth, predicted, more: predicted - truth };
    })
    .filter(({ truth, predicted }) => truth || predicted)
    .sort((a, b) => b.truth - a.truth || b.predicted - a.predicted)
    .slice(0, 40);
  if (!entries.length) return html`<p class="text-body-secondary">It names no emotion.</p>`;
  const most = Math.max(1, ...entries.map(({ more }) => Math.abs(more)));
  const step = 22;
  const height = entries.length * step + 24;
  const draw = (width) => {
    const names = Math.min(140, width * 0.34);
    const x = scale(-most, most, names + 44, width - 44);
    return html`
      <text class="quiet" x=${x(0) - 6} y="12" text-anchor="end">← too seldom</text>
      <text class="quiet" x=${x(0) + 6} y="12">too often →</text>
      <line class="axis" x1=${x(0)} x2=${x(0)} y1="18" y2=${height} />
      ${entries.map(({ group, truth, predicted, more }, i) => {
        const y = 24 + i * step;
        return html`<g>
          <title>${group}: named in ${predicted} clips, true in ${truth}</title>
          <text x=${names} y=${y + 12} text-anchor="end">${cut(group, names)}</text>
          <rect
            class=${more > 0 ? "over" : "under"}
            x=${Math.min(x(0), x(more))}
            y=${y + 2}
            width=${Math.abs(x(more) - x(0))}
            height=${step - 8}
          />
          <text
            class="quiet"
            x=${x(more) + (more < 0 ? -5 : 5)}
            y=${y + 12}
            text-anchor=${more < 0 ? "end" : "start"}
          >
            ${more > 0 ? "+" : more < 0 ? "−" : ""}${Math.abs(more)}
          </text>
        </g>`;
      })}
    `;
  };
  const label = `Clips in which ${name} names an emotion, less those in which it is true: ${entries
    .map(({ group, more }) => `${group} ${more}`)
    .join(", ")}`;
  return html`<${Plot} label=${label} height=${height} draw=${draw} />`;
}
