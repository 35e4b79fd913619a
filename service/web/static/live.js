// Keeps the page up to date from one stream of server-sent events. The server words every number; this only places it.
"use strict";

(() => {
  const SILENCE = 10_000; // ms without news before the page says so
  const RETRY = 3_000; // ms before a stream that the server refused is asked for again
  const CHART_SPAN = 300; // s
  const NARROW = "\u202f";

  const all = (selector, root = document) => root.querySelectorAll(selector);
  const byId = (id) => document.getElementById(id);

  // --- time: the server's, whatever the browser's clock says ---------------------------------------------------

  let clockOffset = Date.parse(document.body.dataset.now) - Date.now();
  const now = () => Date.now() + clockOffset;
  const clockText = (at) => new Date(at).toISOString().slice(11, 19);
  const exact = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;

  // The same words as `ago` in wording.py.
  function ago(iso) {
    const gone = (now() - Date.parse(iso)) / 1000;
    const [size, unit] = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"], [0, "s"]].find(
      ([seconds]) => Math.abs(gone) >= seconds,
    );
    if (!size) return "now";
    const text = `${Math.floor(Math.abs(gone) / size).toLocaleString("en")}${NARROW}${unit}`;
    return gone > 0 ? `${text} ago` : `in ${text}`;
  }

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function setTime(element, iso) {
    if (iso) {
      element.dateTime = iso;
      element.title = exact(iso);
      setText(element, ago(iso));
    } else {
      element.removeAttribute("datetime");
      element.removeAttribute("title");
      setText(element, "–");
    }
  }

  // --- placing what came ------------------------------------------------------------------------------------------

  function place(part, reading) {
    if (part.startsWith("card:")) return placeCard(reading);
    for (const [key, text] of Object.entries(reading.texts ?? {})) {
      for (const element of all(`[data-text="${part}.${key}"]`)) setText(element, text);
    }
    for (const [key, iso] of Object.entries(reading.times ?? {})) {
      for (const element of all(`[data-time="${part}.${key}"]`)) setTime(element, iso);
    }
    const flags = { ...reading.flags, ...("empty" in reading && { empty: reading.empty }) };
    for (const [key, on] of Object.entries(flags)) {
      for (const element of all(`[data-show="${part}.${key}"]`)) element.hidden = !on;
      for (const element of all(`[data-hide="${part}.${key}"]`)) element.hidden = on;
    }
    (reading.bars ?? []).forEach((bar, index) => placeBar(index, bar));
    if (reading.rows) placeRows(part, reading.rows);
    if (reading.status) byId("flow").dataset.status = reading.status;
  }

  function placeBar(step, { went_on, open, dropped }) {
    let top = 100;
    for (const [name, height] of [["went_on", went_on], ["open", open], ["dropped", dropped]]) {
      const rect = document.querySelector(`[data-step="${step}"] rect.${name}`);
      top -= height;
      rect?.setAttribute("y", top.toFixed(2));
      rect?.setAttribute("height", height);
    }
  }

  // A watched funnel on its small card.
  function placeCard({ name, texts, bars }) {
    for (const card of all("[data-card]")) {
      if (card.dataset.card !== name) continue;
      for (const element of all("[data-card-text]", card)) setText(element, texts[element.dataset.cardText]);
      all("rect", card).forEach((rect, index) => {
        const height = bars[index].went_on + bars[index].open + bars[index].dropped;
        rect.setAttribute("y", (100 - height).toFixed(2));
        rect.setAttribute("height", height.toFixed(2));
      });
    }
  }

  function placeRows(part, rows) {
    const body = document.querySelector(`[data-rows="${part}"]`);
    const template = byId(`row-${part}`);
    while (body.rows.length > rows.length) body.deleteRow(-1);
    while (body.rows.length < rows.length) body.append(template.content.cloneNode(true));
    rows.forEach((row, index) => placeRow(body.rows[index], row));
    for (const element of all(`[data-empty="${part}"]`)) element.hidden = rows.length > 0;
    for (const element of all(`[data-filled="${part}"]`)) element.hidden = rows.length === 0;
  }

  function placeRow(element, row) {
    for (const cell of all("[data-cell]", element)) {
      const value = row[cell.dataset.cell];
      if (cell.tagName === "TIME") {
        setTime(cell, value);
        continue;
      }
      setText(cell, value);
      if (cell.dataset.cell === "short_id") {
        cell.href = row.href;
        cell.title = `Session ${row.id}`;
      } else if (cell.dataset.cell === "person") {
        cell.href = row.person_href;
        cell.title = row.person_title;
      } else if (cell.tagName === "BDI") {
        cell.title = row[`${cell.dataset.cell}_title`] ?? value;
      }
    }
    for (const badge of all("[data-flag]", element)) badge.hidden = !row[badge.dataset.flag];
    if ("open" in row) element.dataset.open = row.open ? "yes" : "no";
    if ("anonymous" in row) element.querySelector(".person").toggleAttribute("data-anonymous", row.anonymous);
  }

  // --- the chart --------------------------------------------------------------------------------------------------

  const wholeSteps = [...Array(9).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
  const shortNumber = new Intl.NumberFormat("en", { notation: "compact" }).format;
  const chart = { times: [], rates: [], plot: null };

  function drawChart() {
    const holder = byId("chart");
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--ink-soft"),
      font: `12px ${style.fontFamily}`,
      grid: { stroke: color("--line"), width: 1, dash: [2, 4] },
      ticks: { show: false },
    };
    chart.plot?.destroy();
    chart.plot = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 8, 0, 0],
        scales: {
          x: { range: () => [now() / 1000 - CHART_SPAN, now() / 1000] },
          y: { range: (_plot, _low, high) => [0, Math.max(10, (high ?? 0) * 1.15)] },
        },
        series: [
          {},
          {
            stroke: color("--denim"),
            fill: color("--denim-wash"),
            width: 2,
            points: { show: false },
          },
        ],
        axes: [
          { ...axis, space: 44, values: (_plot, ticks) => ticks.map((tick) => clockText(tick * 1000).slice(0, 5)), incrs: [60, 300], size: 28 },
          { ...axis, size: 48, incrs: wholeSteps, values: (_plot, ticks) => ticks.map(shortNumber) },
        ],
      },
      [chart.times, chart.rates],
      holder,
    );
  }

  function addPoints(points) {
    for (const [at, rate] of points) {
      if (chart.times.length && at <= chart.times.at(-1)) continue;
      chart.times.push(at);
      chart.rates.push(rate);
    }
    const oldest = now() / 1000 - CHART_SPAN - 5;
    while (chart.times.length && chart.times[0] < oldest) {
      chart.times.shift();
      chart.rates.shift();
    }
    chart.plot?.setData([chart.times, chart.rates]);
  }

  // --- the stream -------------------------------------------------------------------------------------------------

  let source = null;
  let retry = null;
  let lastNews = Date.now();
  let lastNewsText = clockText(now());
  let paused = false;
  const waiting = new Map(); // the latest of each part that came while paused or while the list was held

  const sessions = byId("sessions");
  const held = () => sessions.matches(":hover") || sessions.contains(document.activeElement);

  function take(part, reading) {
    lastNews = Date.now();
    if (part === "flow") {
      clockOffset = reading.point[0] * 1000 - Date.now();
      lastNewsText = clockText(now());
      sayConnection("");
      if (!paused) addPoints([reading.point]);
    }
    if (paused || (part === "sessions" && held())) waiting.set(part, reading);
    else place(part, reading);
  }

  function placeWaiting() {
    for (const [part, reading] of waiting) {
      if (part === "sessions" && held()) continue;
      waiting.delete(part);
      place(part, reading);
    }
  }

  function connect() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(document.body.dataset.live);
    source.addEventListener("history", (event) => addPoints(JSON.parse(event.data).points));
    for (const part of ["flow", "partitions", "totals", "pulse", "people", "sessions", "reconciliation", "funnel", "problem"]) {
      source.addEventListener(part, (event) => take(part, JSON.parse(event.data)));
    }
    source.addEventListener("card", (event) => {
      const reading = JSON.parse(event.data);
      take(`card:${reading.name}`, reading);
    });
    source.addEventListener("error", lost);
  }

  function disconnect() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  function lost() {
    sayConnection(`Connection lost, retrying. The numbers are from ${lastNewsText} UTC. Is the service still running?`);
    if (source?.readyState !== EventSource.CLOSED) return; // the browser itself tries again
    retry = setTimeout(connect, RETRY);
    fetch("/api/funnels").then(
      (answer) => answer.status === 401 && location.assign("/login"),
      () => {}, // not there: the retry is under way
    );
  }

  function sayConnection(text) {
    setText(byId("connection"), text);
    document.body.toggleAttribute("data-lost", text !== "");
  }

  // --- what the reader does ---------------------------------------------------------------------------------------

  const pause = byId("pause");
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    setText(pause, paused ? `Paused at ${clockText(now())}` : "Pause");
    if (!paused) {
      placeWaiting();
      connect(); // brings the points that the chart missed
    }
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect(); // a browser allows six connections to a server, over all its tabs
    else connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => event.persisted && connect());

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);
  new ResizeObserver(([entry]) => {
    chart.plot?.setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
  }).observe(byId("chart"));

  setInterval(() => {
    setText(byId("clock"), clockText(now()));
    byId("held").hidden = !held() || paused;
    if (!paused) {
      placeWaiting();
      for (const element of all("time[datetime]")) setText(element, ago(element.dateTime));
    }
    if (source?.readyState === EventSource.OPEN && Date.now() - lastNews > SILENCE) {
      sayConnection(`No news since ${lastNewsText} UTC: the service is there, but busy.`);
    }
  }, 1000);

  drawChart();
  if (!document.hidden) connect();
})();
