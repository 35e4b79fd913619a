// What every page does by itself: times stay right, and parts that say so are kept up to date.
"use strict";

(() => {
  const NARROW = "\u202f";

  // The same words as `ago` in wording.py.
  function ago(iso) {
    const gone = (Date.now() - Date.parse(iso)) / 1000;
    const [size, unit] = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"], [0, "s"]].find(
      ([seconds]) => Math.abs(gone) >= seconds,
    );
    if (!size) return "now";
    const text = `${Math.floor(Math.abs(gone) / size).toLocaleString("en")}${NARROW}${unit}`;
    return gone > 0 ? `${text} ago` : `in ${text}`;
  }

  // On a narrow screen the ways scroll: the way to this page is shown.
  const here = document.querySelector(".ways [aria-current]");
  if (here) here.closest("ul").parentElement.scrollLeft = here.offsetLeft - 60;

  if (!document.body.dataset.live) {
    setInterval(() => {
      for (const element of document.querySelectorAll("time[title]")) {
        const text = ago(element.dateTime);
        if (element.textContent !== text) element.textContent = text;
      }
    }, 5_000);
  }

  // <div data-refresh="5"> is asked for again every five seconds, unless somebody reads with the keyboard in it.
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const index = [...document.querySelectorAll("[data-refresh]")].indexOf(part);
    setInterval(async () => {
      if (document.hidden || part.contains(document.activeElement) || getSelection().type === "Range") return;
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (answer.status === 401) return location.assign("/login");
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        const found = fresh.querySelectorAll("[data-refresh]")[index];
        if (found) part.replaceChildren(...found.childNodes);
        part.removeAttribute("data-stale");
      } catch {
        part.setAttribute("data-stale", "");
      }
    }, Number(part.dataset.refresh) * 1000);
  }
})();
