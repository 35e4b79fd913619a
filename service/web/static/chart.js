// Draws the days of a metric over the picture that the server drew, with the value under the pointer.
"use strict";

(() => {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format;
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 2 }).format;

  function said(value, unit, exactly) {
    if (value == null) return "–";
    if (unit === "share") return `${(value * 100).toFixed(1)}\u202f%`;
    const text = (exactly ? whole : short)(value);
    return unit.startsWith("USD") && unit !== "USD per USD" ? `$${text}` : text;
  }

  async function draw(holder) {
    const answer = await fetch(holder.dataset.chart, { headers: { Accept: "application/json" } });
    if (!answer.ok) return; // the server's picture stays
    const rows = await answer.json();
    if (rows.length < 2) return;
    const { unit, label } = holder.dataset;
    const days = rows.map((row) => Date.parse(row.metric_date) / 1000);
    const last = rows.findLastIndex((row) => row.is_complete);
    const complete = rows.map((row) => (row.is_complete ? row.metric_value : null));
    const growing = rows.map((row, index) => (index >= last ? row.metric_value : null));
    const axis = {
      stroke: () => color("--ink-soft"),
      font: `12px ${style.fontFamily}`,
      grid: { stroke: () => color("--line"), width: 1, dash: [2, 4] },
      ticks: { show: false },
    };
    const value = (_plot, found) => said(found, unit, true);
    const line = { stroke: () => color("--denim"), width: 2, points: { show: rows.length < 45, size: 5 }, value };
    const plot = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        padding: [10, 24, 0, 0],
        legend: { show: false },
        cursor: { y: false },
        scales: { y: { range: (_plot, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.1] } },
        series: [
          { value: "{YYYY}-{MM}-{DD}" },
          { ...line, label, fill: () => color("--denim-wash") },
          { ...line, label: "not complete", dash: [5, 5] },
        ],
        axes: [
          { ...axis, size: 30, values: (_plot, ticks) => ticks.map((tick) => new Date(tick * 1000).toISOString().slice(5, 10)) },
          { ...axis, size: 58, values: (_plot, ticks) => ticks.map((tick) => said(tick, unit, false)) },
        ],
        hooks: { setCursor: [(shown) => point(shown, rows, holder, unit)] },
      },
      [days, complete, growing],
      holder,
    );
    holder.querySelector("svg")?.remove();
    new ResizeObserver(([entry]) => plot.setSize({ width: entry.contentRect.width, height: entry.contentRect.height })).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw());
  }

  // The day and the value under the pointer, in a corner where it covers nothing.
  function point(plot, rows, holder, unit) {
    let told = holder.querySelector(".told");
    if (!told) {
      told = document.createElement("output");
      told.className = "told";
      holder.append(told);
    }
    const row = rows[plot.cursor.idx];
    told.hidden = !row;
    if (row) told.textContent = `${row.metric_date}: ${said(row.metric_value, unit, true)}${row.is_complete ? "" : ", not complete"}`;
  }

  for (const holder of document.querySelectorAll("[data-chart]")) draw(holder);
})();
