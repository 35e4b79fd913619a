// Builds a funnel's definition out of pick lists, and shows the answer as it is built. The textarea holds the definition;
// the server draws every answer.
"use strict";

(() => {
  const WAIT = 350; // ms after the last keystroke before the server is asked
  const REST = 9; // a live answer rests nine times as long as it took
  const byId = (id) => document.getElementById(id);
  const builder = byId("builder");
  const text = byId("definition");

  const TESTS = [
    ["equals", "is"], ["not", "is not"], ["in", "is one of"], ["not_in", "is none of"], ["contains", "contains"],
    ["greater", "is more than"], ["at_least", "is at least"], ["less", "is less than"], ["at_most", "is at most"],
    ["exists", "is there"],
  ];
  const SESSION = ["session.device_type", "session.browser", "session.os", "session.entry_path", "session.utm_source", "session.utm_campaign", "session.page_count"];
  const PERSON = ["person.is_known", "person.first_seen", "person.id"];
  const COLUMNS = ["path", "referrer", "utm_source", "utm_medium", "utm_campaign", "device_type", "browser", "os"];
  const UNITS = ["minutes", "hours", "days"];

  let definition = read();
  let lists = 0; // pick lists made so far: each has an id of its own

  function read() {
    try {
      const found = JSON.parse(text.value);
      return found && typeof found === "object" && Array.isArray(found.steps) ? found : { steps: [] };
    } catch {
      return { steps: [] };
    }
  }

  // --- small pieces ------------------------------------------------------------------------------------------------

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (typeof value === "boolean") element.toggleAttribute(name, value);
      else if (value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  function labelled(label, control, className) {
    return make("label", { class: className ?? "field" }, make("span", {}, label), control);
  }

  function select(options, value, change, label) {
    const element = make("select", { "aria-label": label, onchange: () => change(element.value) });
    for (const [key, name] of options) element.append(make("option", { value: key, selected: key === value }, name));
    if (value && !options.some(([key]) => key === value)) element.append(make("option", { value, selected: true }, value));
    return element;
  }

  // A text field whose list is filled from the API when somebody comes to it, and again as they type.
  function picked(value, change, label, fill, attributes = {}) {
    const list = make("datalist", { id: `list-${(lists += 1)}` });
    let timer = null;
    const load = async () => {
      const found = await fill(element.value).catch(() => []);
      list.replaceChildren(...found.map(([name, note]) => make("option", { value: name }, note)));
    };
    const element = make("input", {
      value, list: list.id, maxlength: "1000", autocomplete: "off", spellcheck: "false", "aria-label": label, ...attributes,
      onfocus: load,
      oninput: () => { clearTimeout(timer); timer = setTimeout(load, 200); change(element.value); },
    });
    return make("span", { class: "picked" }, element, list);
  }

  async function ask(path, parameters) {
    const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
  }

  const count = (number) => `${number.toLocaleString("en")} events`;
  const events = async (typed) => (await ask("/api/events", { q: typed, limit: 100 })).map((one) => [one.name, count(one.events)]);

  const fields = (event) => async () => {
    const plain = [...COLUMNS, ...SESSION, ...PERSON].map((name) => [name, ""]);
    if (!event) return plain;
    const found = await ask("/api/events/fields", { event });
    const known = found.fields.map((one) => [one.field, `${one.type}, in ${one.events.toLocaleString("en")} of ${count(found.sample)}`]);
    return [...known, ...plain.filter(([name]) => !found.fields.some((one) => one.field === name))];
  };

  const values = (event, field) => async (typed) => {
    if (!event || /^(session|person)\./.test(field)) return [];
    const found = await ask("/api/events/values", { event, field, q: typed, limit: 100 });
    return found.values.map((one) => [one.value, count(one.events)]);
  };

  function remove(label, act) {
    return make("button", { type: "button", class: "small", "aria-label": label, title: label, onclick: act }, "×");
  }

  // --- conditions: {field: value} or {field: {test: value}} --------------------------------------------------------

  function rows(where) {
    return Object.entries(where ?? {}).flatMap(([field, asked]) =>
      asked && typeof asked === "object" && !Array.isArray(asked)
        ? Object.entries(asked).map(([test, value]) => ({ field, test, value }))
        : [{ field, test: "equals", value: asked }],
    );
  }

  function packed(conditions) {
    const where = {};
    for (const { field, test, value } of conditions) {
      if (!field) continue;
      const before = where[field];
      if (before === undefined && test === "equals") where[field] = value;
      else where[field] = { ...(before && typeof before === "object" ? before : before === undefined ? {} : { equals: before }), [test]: value };
    }
    return where;
  }

  // What somebody typed, as JSON has it: 5 is a number, "5" a text, true a truth.
  function typed(test, written) {
    const one = (part) => {
      const bare = part.trim();
      if (/^".*"$/s.test(bare)) return bare.slice(1, -1);
      if (bare !== "" && String(Number(bare)) === bare) return Number(bare);
      return { true: true, false: false, null: null }[bare] ?? (bare === "null" ? null : bare);
    };
    if (test === "exists") return one(written) !== false;
    return test === "in" || test === "not_in" ? written.split(",").map(one) : one(written);
  }

  function written(value) {
    const one = (part) => (typeof part === "string" && (String(Number(part)) === part || ["true", "false", "null"].includes(part)) ? `"${part}"` : String(part));
    return Array.isArray(value) ? value.map(one).join(", ") : one(value ?? "");
  }

  function conditions(match, where) {
    const found = rows(match.where);
    const store = () => {
      const made = packed(found);
      if (Object.keys(made).length) match.where = made;
      else delete match.where;
      changed();
    };
    const list = make("div", { class: "conditions" });
    found.forEach((row, index) => {
      list.append(make("div", { class: "condition" },
        picked(row.field, (field) => { row.field = field; store(); }, `Field ${index + 1} of ${where}`, fields(match.event), { placeholder: "field" }),
        select(TESTS, row.test, (test) => { row.test = test; row.value = typed(test, written(row.value)); store(); draw(); }, `Test ${index + 1} of ${where}`),
        row.test === "exists"
          ? select([["true", "yes"], ["false", "no"]], String(row.value !== false), (value) => { row.value = value === "true"; store(); }, `Value ${index + 1} of ${where}`)
          : picked(written(row.value), (value) => { row.value = typed(row.test, value); store(); }, `Value ${index + 1} of ${where}`, (part) => values(match.event, row.field)(part), { placeholder: row.test.endsWith("in") ? "a, b" : "value" }),
        remove(`Remove condition ${index + 1} of ${where}`, () => { found.splice(index, 1); store(); draw(); }),
      ));
    });
    list.append(make("button", { type: "button", class: "link", onclick: () => {
      // a field of its own, until one is picked: two rows of one name would be one
      found.push({ field: "path", test: found.some((row) => row.field === "path") ? "contains" : "equals", value: "/" });
      store();
      draw(`Field ${found.length} of ${where}`);
    } }, "and a condition"));
    return list;
  }

  // --- steps -------------------------------------------------------------------------------------------------------

  function stepOf(step, index) {
    const name = `step ${index + 1}`;
    const several = step.any_of;
    const matches = several ?? [step];
    const parts = matches.map((match, at) => make("div", { class: "match" },
      make("div", { class: "condition event" },
        picked(match.event ?? "", (event) => { match.event = event; changed(); }, several ? `Event ${at + 1} of ${name}` : `Event of ${name}`, events, { placeholder: "event" }),
        several ? remove(`Remove event ${at + 1} of ${name}`, () => {
          several.splice(at, 1);
          if (several.length === 1) definition.steps[index] = { ...several[0], ...(step.optional && { optional: true }), ...(step.name && { name: step.name }) };
          changed(); draw();
        }) : null),
      conditions(match, several ? `event ${at + 1} of ${name}` : name)));
    return make("li", { class: "made" },
      make("div", { class: "tools" },
        make("span", { class: "button", "aria-hidden": "true" }, String(index + 1)),
        make("span", { class: "grow" }),
        index ? make("label", { class: "check" }, make("input", { type: "checkbox", checked: Boolean(step.optional), onchange: (event) => { if (event.target.checked) step.optional = true; else delete step.optional; changed(); } }), " optional") : null,
        index ? make("button", { type: "button", class: "small", "aria-label": `Move ${name} up`, title: "Move up", onclick: () => { definition.steps.splice(index - 1, 0, definition.steps.splice(index, 1)[0]); changed(); draw(); } }, "↑") : null,
        definition.steps.length > 1 ? remove(`Remove ${name}`, () => { definition.steps.splice(index, 1); delete definition.exclude; changed(); draw(); }) : null),
      ...parts,
      make("button", { type: "button", class: "link", onclick: () => {
        if (several) several.push({ event: "" });
        else {
          const { event, where, ...rest } = step;
          definition.steps[index] = { ...rest, any_of: [{ event, ...(where && { where }) }, { event: "" }] };
        }
        draw(`Event ${(several?.length ?? 2)} of ${name}`);
      } }, "or another event"));
  }

  function set(name, value, usual) {
    if (value === usual || value === "" || value == null) delete definition[name];
    else definition[name] = value;
    changed();
  }

  // A plain date as it is; of a time the day in the funnel's time zone, at the end of the range the last one in it.
  function dayOf(iso, isEnd) {
    if (!iso || iso.length === 10) return iso ?? "";
    const at = new Date(Date.parse(iso) - (isEnd ? 1 : 0));
    return new Intl.DateTimeFormat("en-CA", { timeZone: definition.time_zone ?? "UTC", year: "numeric", month: "2-digit", day: "2-digit" }).format(at);
  }

  function rules() {
    const [, number, unit] = /^(\d+)\s*(\w+?)s?$/.exec(definition.window ?? "14 days") ?? [null, "14", "day"];
    const amount = make("input", { type: "number", min: "1", max: "3650", value: number, "aria-label": "Window", onchange: windowed, oninput: windowed });
    const units = select(UNITS.map((one) => [one, one]), `${unit}s`, windowed, "Unit of the window");
    function windowed() {
      if (amount.value) set("window", `${amount.value} ${units.value}`, "14 days");
    }
    const day = (name) => {
      const element = make("input", { type: "date", value: dayOf(definition[name], name === "until"), onchange: () => { if (!element.value) delete definition.compare; set(name, element.value); draw(); } });
      return element;
    };
    const exclusion = definition.exclude?.[0];
    const attribution = typeof definition.attribution === "object" ? `step ${definition.attribution.step}` : (definition.attribution ?? "first_touch");
    const atSteps = definition.steps.map((_, index) => [`step ${index}`, `value at step ${index + 1}`]);
    return make("div", { class: "rules" },
      labelled("Count", select([["person", "people"], ["device", "devices"], ["session", "sessions"]], definition.by ?? "person", (by) => set("by", by, "person"))),
      labelled("Each", select([["uniques", "once"], ["totals", "each time anew"]], definition.count ?? "uniques", (value) => set("count", value, "uniques"))),
      labelled("Order", select([["ordered", "in this order"], ["strict", "directly one after the other"], ["any", "in any order"]], definition.order ?? "ordered", (order) => set("order", order, "ordered"))),
      make("div", { class: "field" }, make("span", {}, "Within"), make("span", { class: "both" }, amount, units)),
      labelled("Began from", day("since")),
      labelled("Began until", day("until")),
      definition.since && definition.until ? make("label", { class: "check wide" }, make("input", { type: "checkbox", checked: Boolean(definition.compare), onchange: (event) => set("compare", event.target.checked ? "previous_period" : null) }), " Compare with the period before") : null,
      labelled("Break down by", picked(definition.breakdown ?? "", (field) => set("breakdown", field), "Break down by", fields(definition.steps[0]?.event), { placeholder: "nothing" }), "field wide"),
      definition.breakdown ? labelled("Attribute to", select([["first_touch", "value at the first step"], ["last_touch", "value at the last step reached"], ...atSteps], attribution, (value) => set("attribution", value.startsWith("step ") ? { step: Number(value.slice(5)) } : value, "first_touch")), "field wide") : null,
      definition.steps.length > 1 ? labelled("Leave out who did this between", picked(exclusion?.event ?? "", (event) => set("exclude", event ? [{ event, from_step: 0, to_step: definition.steps.length - 1 }] : null), "Leave out who did this between", events, { placeholder: "nothing" }), "field wide") : null,
      labelled("Hold constant", picked((definition.hold ?? []).join(", "), (field) => set("hold", field ? field.split(",").map((one) => one.trim()) : null), "Hold constant", fields(definition.steps[0]?.event), { placeholder: "nothing" }), "field wide"),
      labelled("Name", make("input", { value: definition.name ?? "funnel", maxlength: "200", oninput: (event) => set("name", event.target.value) }), "field wide"));
  }

  function draw(focus) {
    const held = focus ?? document.activeElement?.getAttribute?.("aria-label");
    builder.replaceChildren(
      make("ol", { class: "making" }, ...definition.steps.map(stepOf)),
      make("button", { type: "button", class: "add", onclick: () => { definition.steps.push({ event: "" }); draw(`Event of step ${definition.steps.length}`); } }, "Add a step"),
      rules());
    if (held) [...builder.querySelectorAll("[aria-label]")].find((element) => element.getAttribute("aria-label") === held)?.focus();
  }

  // --- asking ------------------------------------------------------------------------------------------------------

  let timer = null;
  let running = null;

  // Steps whose event is still to be picked do not count yet.
  function told() {
    const steps = definition.steps
      .map((step) => (step.any_of ? { ...step, any_of: step.any_of.filter((match) => match.event) } : step))
      .filter((step) => (step.any_of ? step.any_of.length : step.event));
    return JSON.stringify({ ...definition, steps }, null, 1);
  }

  function changed() {
    text.value = told();
    clearTimeout(timer);
    timer = setTimeout(show, WAIT);
  }

  const href = () => `/funnels?${new URLSearchParams({ definition: JSON.stringify(JSON.parse(text.value)) })}`;

  async function show() {
    running?.abort();
    const mine = (running = new AbortController());
    const result = byId("result");
    byId("standing").textContent = "counting …";
    result.setAttribute("aria-busy", "true");
    try {
      const began = performance.now();
      history.replaceState(null, "", href());
      const answer = await fetch(`/funnels/result?${new URLSearchParams({ definition: text.value })}`, { headers: { Accept: "text/html" }, signal: mine.signal });
      if (answer.status === 401) return location.assign("/login");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) result.replaceChildren(...page.body.childNodes);
      else notice(page.querySelector(".panel bdi")?.textContent ?? "The service cannot answer now. Try again in some seconds.");
      byId("standing").textContent = "";
      return performance.now() - began;
    } catch (error) {
      if (error.name !== "AbortError") {
        notice("The service does not answer: is it still running? The next change asks again.");
        byId("standing").textContent = "";
      }
    } finally {
      if (running === mine) result.removeAttribute("aria-busy");
    }
  }

  function notice(says) {
    byId("result").replaceChildren(make("div", { class: "notice drift", role: "alert" }, make("p", {}, make("bdi", {}, says))));
  }

  // --- live, and copying -------------------------------------------------------------------------------------------

  const watch = byId("watch");
  let live = null;

  async function look() {
    const took = document.hidden ? 0 : ((await show()) ?? 0);
    if (live !== null) live = setTimeout(look, Math.max(1000, took * REST));
  }

  watch.hidden = false;
  watch.addEventListener("click", () => {
    const on = live === null;
    watch.setAttribute("aria-pressed", String(on));
    clearTimeout(live);
    live = on ? 0 : null;
    if (on) look();
  });

  // What is asked for is copied when it comes: a browser lets a page copy for some seconds after a click.
  function copies(button, fetched) {
    const label = button.textContent;
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      byId("copy-note").textContent = "";
      try {
        await navigator.clipboard.writeText(await fetched());
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = label), 1500);
      } catch (error) {
        byId("copy-note").textContent = error.message;
      }
    });
  }

  copies(byId("copy"), async () => text.value);
  copies(byId("copy-sql"), async () => {
    const answer = await fetch(`/api/funnel/sql?${new URLSearchParams({ definition: text.value })}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) location.assign("/login");
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer.text();
  });

  text.addEventListener("change", () => {
    definition = read();
    draw();
    show();
  });

  if (text.value) text.value = JSON.stringify(JSON.parse(text.value), null, 1);
  if (!definition.steps.length) definition.steps = [{ event: "" }];
  draw();
  if ("counting" in byId("result").dataset) show(); // it takes longer than a page may
})();
